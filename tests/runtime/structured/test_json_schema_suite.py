"""The official test suite of JSON Schema 2020-12: each schema is refused or enforced exactly."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.structured.random_answers import TOKENIZER, random_answers
from vlrun.errors import OptionError
from vlrun.structured import grammar
from vlrun.structured.grammar import Grammar, compile_schema

pytestmark = pytest.mark.slow

jsonschema = pytest.importorskip("jsonschema")
SUITE = json.loads(
    gzip.decompress((Path(__file__).parent / "data" / "json-schema-test-suite-2020-12.json.gz").read_bytes())
)
ANSWERS_PER_SCHEMA = 8


def accepts(compiled: Grammar, data: object) -> bool:
    """Whether the constraint accepts a value as ``json.dumps`` writes it."""
    constraint = compiled.constraint()
    text = json.dumps(data, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        for token in TOKENIZER.load().tokenize_bytes(text):
            constraint.accept(token)
    except OptionError:
        return False
    return constraint.complete


def test_every_schema_is_enforced_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No random answer, and no instance that the suite calls invalid, passes an accepted schema. The counts change with
    llguidance.
    """
    # No schema here is hostile, and a process for each would take minutes.
    monkeypatch.setattr(grammar, "try_compile", lambda _: "")
    random = np.random.default_rng(7)
    enforced = enforced_cases = finished = 0
    for group in SUITE:
        try:
            compiled = compile_schema(group["schema"], TOKENIZER)
        except OptionError:
            continue
        enforced += 1
        enforced_cases += len(group["tests"])
        validator = jsonschema.Draft202012Validator(group["schema"])
        answers = random_answers(compiled, random, ANSWERS_PER_SCHEMA)
        finished += len(answers)
        assert answers, group
        for text in answers:
            assert validator.is_valid(json.loads(text)), (group, text)
        assert not [data for data in invalid_instances(group) if accepts(compiled, data)], group
    cases = sum(len(group["tests"]) for group in SUITE)
    print(f"enforced {enforced} of {len(SUITE)} schemas, {enforced_cases} of {cases} cases; {finished} answers")
    assert finished > 0.98 * ANSWERS_PER_SCHEMA * enforced
    assert (enforced, len(SUITE) - enforced) == (181, 257)
    assert (enforced_cases, cases - enforced_cases) == (947, 959)


def invalid_instances(group: dict[str, Any]) -> list[object]:
    """Return the instances that must not pass. Formats are checked only by shape: 2021-02-30 passes as a date."""
    if group["file"].startswith("optional/format"):
        return []
    return [data for data, valid in group["tests"] if not valid]
