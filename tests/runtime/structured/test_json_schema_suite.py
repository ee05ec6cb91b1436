"""The official test suite of JSON Schema 2020-12: each schema is refused, or enforced exactly while an answer is
generated or when it is complete.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.structured.random_answers import TOKENIZER, random_answers
from vlrun.errors import OptionError
from vlrun.structured import grammar
from vlrun.structured.grammar import Grammar, compile_schema
from vlrun.structured.schema_check import check_schema

pytestmark = pytest.mark.slow

jsonschema = pytest.importorskip("jsonschema")
SUITE = json.loads(
    gzip.decompress((Path(__file__).parent / "data" / "json-schema-test-suite-2020-12.json.gz").read_bytes())
)
ANSWERS_PER_SCHEMA = 5


def accepts(compiled: Grammar, data: object) -> bool:
    """Whether a value is an answer, as ``json.dumps`` writes it."""
    constraint = compiled.constraint()
    text = json.dumps(data, ensure_ascii=False)
    try:
        for token in TOKENIZER.load().tokenize_bytes(text.encode("utf-8", "surrogatepass")):
            constraint.accept(token)
    except OptionError:
        return False
    return constraint.complete and compiled.checks.violation(text) is None


def test_every_schema_is_enforced_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No random answer, and no instance that the suite calls invalid, passes an accepted schema. The counts change with
    llguidance.
    """
    # No schema here is hostile, and a process for each would take minutes.
    monkeypatch.setattr(grammar, "try_compile", lambda _: "")
    random = np.random.default_rng(7)
    counts: Counter[str] = Counter()
    for group in SUITE:
        counts["schemas"] += 1
        counts["cases"] += len(group["tests"])
        try:
            compiled = compile_schema(group["schema"], TOKENIZER)
        except OptionError:
            continue
        counts["enforced schemas"] += 1
        counts["enforced cases"] += len(group["tests"])
        counts["checked schemas"] += compiled.checks.schema is not None
        validator = jsonschema.Draft202012Validator(group["schema"])
        answers = random_answers(compiled, random, ANSWERS_PER_SCHEMA)
        assert answers, group
        counts["answers"] += len(answers)
        for text in answers:
            if compiled.checks.violation(text):
                counts["violations"] += 1
                continue
            assert validator.is_valid(json.loads(text)), (group, text)
        assert not [data for data in invalid_instances(group) if accepts(compiled, data)], group
    print(dict(counts))
    assert counts["answers"] > 0.98 * ANSWERS_PER_SCHEMA * counts["enforced schemas"]
    assert counts["violations"] < 0.1 * counts["answers"]
    assert (counts["schemas"], counts["enforced schemas"], counts["checked schemas"]) == (438, 347, 136)
    assert (counts["cases"], counts["enforced cases"]) == (1906, 1686)


def test_complete_answers_are_checked_as_the_suite_says() -> None:
    """A check that refused valid answers would make a schema useless."""
    wrong = []
    for group in SUITE:
        with suppress(OptionError):
            validator = check_schema(group["schema"]).validator
            if validator and not group["file"].startswith(("optional/format", "format")):
                wrong += [(group, data) for data, valid in group["tests"] if valid != (not validator.violation(data))]
    assert not wrong


def invalid_instances(group: dict[str, Any]) -> list[object]:
    """Return the instances that must not pass. Formats are checked only by shape: 2021-02-30 passes as a date."""
    if group["file"].startswith("optional/format"):
        return []
    return [data for data, valid in group["tests"] if not valid]
