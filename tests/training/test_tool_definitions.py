"""Drawn tools are those that the runtime accepts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import jsonschema
import pytest

from tests.training.scenes import DOMAINS, drawn_with_tools
from vlrun.structured.tool_check import check_tools
from vlrun.types.turn import ToolChoice


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("tools", [1, 2, 3])
def test_tools_are_those_that_the_runtime_takes(domain: str, tools: int) -> None:
    """Guards training on what no client may send: a tool of another form, two of one name, a schema that is none."""
    sizes = Counter()  # type: Counter[int]
    for seed in range(15):
        _, toolset, _ = drawn_with_tools(domain, seed, tools)
        parameters = check_tools(toolset.definitions, ToolChoice())
        sizes[len(parameters)] += 1
        for tool in toolset.tools:
            jsonschema.Draft202012Validator.check_schema(parameters[tool.name])
            assert list(properties(parameters[tool.name])) == [argument.name for argument in tool.arguments]
    assert max(sizes) == tools


def properties(parameters: Any) -> dict[str, Any]:
    found: dict[str, Any] = parameters["properties"]
    return found
