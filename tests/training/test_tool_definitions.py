"""Drawn tools are accepted by the runtime."""

from __future__ import annotations

from collections import Counter
from typing import Any

import jsonschema
import pytest

from tests.training.scenes import DOMAINS, draw_with_tools
from vlrun.structured.tool_check import check_tools
from vlrun.types.turn import ToolChoice


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("tools", [1, 2, 3])
def test_drawn_tools_are_accepted_by_the_runtime(domain: str, tools: int) -> None:
    sizes = Counter()  # type: Counter[int]
    for seed in range(15):
        _, toolset, _ = draw_with_tools(domain, seed, tools)
        parameters = check_tools(toolset.definitions, ToolChoice())
        sizes[len(parameters)] += 1
        for tool in toolset.tools:
            jsonschema.Draft202012Validator.check_schema(parameters[tool.name])
            assert list(properties(parameters[tool.name])) == [argument.name for argument in tool.arguments]
    assert max(sizes) == tools


def properties(parameters: Any) -> dict[str, Any]:
    found: dict[str, Any] = parameters["properties"]
    return found
