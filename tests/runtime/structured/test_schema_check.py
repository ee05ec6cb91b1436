"""Any JSON is a schema or is refused by a sentence: clients write absent keywords as null."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from vlrun.errors import OptionError
from vlrun.structured.schema_check import check_schema
from vlrun.structured.schema_refs import NAMED_SCHEMAS, ONE_SCHEMA, SCHEMA_LISTS

VALUES: tuple[Any, ...] = (
    *(None, True, 0, 2.5, "x", [], [None], [{}], {}),
    *({"a": None}, {"a": 1}, {"a": ["b"]}, {"a": {"type": "string"}}),
)
BESIDE: tuple[dict[str, Any], ...] = ({}, {"dependencies": {"a": 1}}, {"items": []})


@pytest.mark.parametrize("keyword", sorted(ONE_SCHEMA | SCHEMA_LISTS | NAMED_SCHEMAS))
def test_a_null_keyword_is_absent(keyword: str) -> None:
    assert check_schema({"type": "object", keyword: None}).grammar == {"type": "object"}


@pytest.mark.parametrize("keyword", sorted(ONE_SCHEMA | SCHEMA_LISTS | NAMED_SCHEMAS | {"dependencies"}))
def test_any_value_is_checked_or_refused(keyword: str) -> None:
    for value in VALUES:
        for beside in BESIDE:
            with contextlib.suppress(OptionError):
                check_schema({**beside, keyword: value})


def test_old_and_new_lists_of_items_are_refused_together() -> None:
    with pytest.raises(OptionError, match="prefixItems beside a list of items at #"):
        check_schema({"items": [{"type": "string"}], "prefixItems": [{"type": "integer"}]})


def test_references_within_property_names_are_followed_from_the_root() -> None:
    """They were looked up in the schema of the names, where they are not: a KeyError."""
    names = {"anyOf": [{"$ref": "#/$defs/known"}, {"const": "b"}]}
    schema = {"type": "object", "properties": {"a": True}, "propertyNames": names, "$defs": {"known": {"const": "a"}}}
    validator = check_schema(schema).validator
    assert validator is not None
    assert validator.violation({"a": 1, "b": 2}) is None
    assert validator.violation({"c": 1}) is not None


def test_references_to_the_modern_place_of_an_older_keyword_are_refused() -> None:
    """Guards against a KeyError when the answer is checked."""
    items = [{"type": "string"}, {"$ref": "#/prefixItems/0"}]
    with pytest.raises(OptionError, match="#/items/1 leads to no schema"):
        check_schema({"type": "array", "items": items, "uniqueItems": True})
