"""Schemas as popular clients and tool servers send them: all are honoured."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.structured.random_answers import TOKENIZER, complete_answers
from tests.runtime.structured.tool_answers import AUTO, function
from vlrun.models.qwen3_vl.family import QWEN3_VL
from vlrun.structured.grammar import compile_schema
from vlrun.structured.schema_dialects import modernize
from vlrun.structured.tool_grammar import OptionalToolCallsGrammar, compile_answer

jsonschema = pytest.importorskip("jsonschema")
pytestmark = pytest.mark.slow

SCHEMAS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "tool_schemas.json").read_text(encoding="utf-8")
)
CHECKED = {
    "instructor: iterable of tasks",
    "pydantic: discriminator with a default",
    "pydantic: decimal, date, uuid, set, tuple",
    "MCP github: pull_request_review_write",
    "MCP playwright: browser_click",
    "MCP kubernetes (Go): uint64 and nulls",
    "MCP zapier: dependent fields",
    "AI SDK: zod union and record",
    "paperless-ai: document",
}
"""Whose complete answers are checked. The grammar enforces all of the others."""


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_of_popular_tools_are_honoured(name: str) -> None:
    compiled = compile_schema(SCHEMAS[name], TOKENIZER)
    assert (compiled.checks.schema is not None) == (name in CHECKED)
    validator = jsonschema.Draft202012Validator(in_2020_12(SCHEMAS[name]))
    for text in islice(complete_answers(compiled, np.random.default_rng(1), 6), 2):
        assert compiled.checks.violation(text) or validator.is_valid(json.loads(text)), text


def in_2020_12(schema: Any) -> Any:
    """Return a schema in terms of draft 2020-12, for a validator that does not know older drafts and OpenAPI."""
    if isinstance(schema, list):
        return [in_2020_12(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    is_schema = isinstance(schema.get("type"), str | list)
    kept = {key: in_2020_12(value) for key, value in (modernize(schema, "") if is_schema else schema).items()}
    kept.pop("$schema", None)
    return kept


def test_all_of_them_together_are_the_parameters_of_tools() -> None:
    """A client with many servers sends them in one request."""
    objects = [schema for schema in SCHEMAS.values() if schema["type"] == "object"]
    tools = [function(f"tool_{index}", schema) for index, schema in enumerate(objects)]
    grammar = compile_answer(None, tools, AUTO, TOKENIZER, QWEN3_VL)
    assert isinstance(grammar, OptionalToolCallsGrammar)
    assert grammar.checks.notes == ()
    assert len(grammar.checks.tools) == len(CHECKED)
