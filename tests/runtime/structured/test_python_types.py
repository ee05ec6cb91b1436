"""Schemas from Python types, and answers converted back to them."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass, field
from decimal import Decimal
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


@pytest.mark.parametrize("source", [{}, "{}", True, dict[str, int]])
def test_an_object_with_a_name_twice_has_no_value(source: object) -> None:
    """Parsers keep only one of the members: ``{"a": 1, "a": 2}`` became ``{"a": 2}``."""
    for text in ('{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 1}}', '[{"": 1, "": 2}]'):
        with pytest.raises(OptionError, match="does not fit"):
            value_of(text, source)


def test_decimals_of_pydantic_are_numbers() -> None:
    """Their schema allows any string, of which few are decimals."""
    pydantic = pytest.importorskip("pydantic")
    cents = pydantic.Field(max_digits=6, decimal_places=2, ge=0)
    model = pydantic.create_model("Receipt", total=Decimal, tax=(Decimal, cents), parts=(list[Decimal] | None, None))
    compiled = compile_schema(schema_of(model), TOKENIZER)
    text = next(text for seed in range(9) if (text := random_answer(compiled, np.random.default_rng(seed))))
    plain: Any = value_of(text, {})
    assert all(isinstance(plain[name], int | float) for name in ("total", "tax"))
    assert value_of('{"total": 12.10, "tax": 0.25}', model) == model(total=Decimal("12.1"), tax=Decimal("0.25"))
    either = pydantic.create_model("Either", total=float | str)
    assert isinstance(value_of('{"total": "12"}', either), either)
    assert "string" in str(schema_of(either))


def test_any_error_of_a_type_is_told() -> None:
    """Types run the user's code, which may raise anything."""

    @dataclass
    class Raising:
        n: int

        def __post_init__(self) -> None:
            raise {1: KeyError, 2: ZeroDivisionError, 3: AssertionError, 4: RuntimeError}[self.n]("no")

    for number in range(1, 5):
        with pytest.raises(OptionError, match="does not fit 'Raising'"):
            value_of(f'{{"n": {number}}}', Raising)
