"""Schemas from Python types, and answers converted back to them."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import numpy as np
import pytest

from tests.runtime.structured.random_answers import TOKENIZER, random_answer
from vlrun.errors import OptionError
from vlrun.structured.grammar import compile_schema
from vlrun.structured.python_types import schema_of, value_of

jsonschema = pytest.importorskip("jsonschema")


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Size(TypedDict):
    width: int
    height: float


@dataclass
class Thing:
    label: str
    colour: Colour
    bbox_2d: tuple[int, int, int, int]
    size: Size
    sure: Literal["yes", "no"] = "yes"


@dataclass
class Scene:
    things: list[Thing]
    counts: dict[str, int]
    caption: str | None
    night: bool = False
    tags: list[str] = field(default_factory=list)


@dataclass
class Branch:
    name: Literal["leaf", "twig"]
    inner: list[Branch]


@dataclass
class Dated:
    when: dt.datetime


@dataclass
class Anything:
    what: Any


@pytest.mark.slow
@pytest.mark.parametrize("source", [Scene, Thing, Size, Branch, Colour, int, float, list[Thing], int | None, bool])
def test_random_answers_become_values(source: object) -> None:
    """Every answer under a type's schema is a value of the type."""
    schema = schema_of(source)
    compiled = compile_schema(schema, TOKENIZER)
    random = np.random.default_rng(5)
    texts = [text for _ in range(40) if (text := random_answer(compiled, random, 300)) is not None]
    assert len(texts) > 20
    for text in texts:
        jsonschema.Draft202012Validator(schema).validate(value_of(text, {}))
        value_of(text, source)


def test_values_are_instances_of_the_type() -> None:
    text = (
        '{"label": "cup", "colour": "red", "bbox_2d": [1, 2, 3, 4], "size": {"width": 1, "height": 2.5}, "sure": "no"}'
    )
    size: Size = {"width": 1, "height": 2.5}
    assert value_of(text, Thing) == Thing("cup", Colour.RED, (1, 2, 3, 4), size, "no")
    assert value_of(text, {"type": "object"}) == value_of(text, "{}")


def test_schemas_are_closed_and_require_fields_without_defaults() -> None:
    schema: Any = schema_of(Scene)
    scene = schema["$defs"]["Scene"]
    assert scene["required"] == ["things", "counts", "caption"]
    assert scene["additionalProperties"] is False
    assert schema["$defs"]["Size"]["additionalProperties"] is False


def test_pydantic_models_use_their_own_schema() -> None:
    pydantic = pytest.importorskip("pydantic")
    inner = pydantic.create_model("Inner", n=(int, pydantic.Field(ge=0, le=9)))
    model = pydantic.create_model("Outer", inner=(inner, ...), note=(str | None, None))
    compiled = compile_schema(schema_of(model), TOKENIZER)
    text = next(text for seed in range(9) if (text := random_answer(compiled, np.random.default_rng(seed))))
    assert isinstance(value_of(text, model), model)
    with pytest.raises(OptionError, match="does not fit 'Outer'"):
        value_of('{"inner": {"n": 70}}', model)


def test_mappings_json_text_and_booleans_are_used_as_schemas() -> None:
    assert schema_of({"type": "integer"}) == schema_of('{"type": "integer"}') == {"type": "integer"}
    assert schema_of(True) is True
    with pytest.raises(OptionError, match="not JSON"):
        schema_of("{")


@pytest.mark.parametrize("source", [Dated, Anything, set[int], dict[int, str], bytes, complex, object(), 7])
def test_other_types_are_refused(source: object) -> None:
    """Guards against types whose schema is looser than their values: a date would be any text."""
    with pytest.raises(OptionError, match="no schema can be made"):
        schema_of(source)


def test_none_is_the_value_of_null() -> None:
    assert value_of("null", type(None)) is None


def test_an_incomplete_answer_has_no_value() -> None:
    sources: list[object] = [Scene, {}]
    for source in sources:
        with pytest.raises(OptionError, match="does not fit"):
            value_of('{"things": [', source)
