"""Compiling a grammar in a process with a time limit."""

from __future__ import annotations

import json

import pytest

from vlrun.structured import trial_compile


def unchecked_grammar(schema: dict[str, object]) -> str:
    """Return the grammar of a schema without vlrun's own checks."""
    from llguidance import LLMatcher

    return str(LLMatcher.grammar_from_json_schema(json.dumps(schema)))


@pytest.mark.slow
def test_a_trial_compilation_is_limited_by_cpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards ordinary patterns on a busy machine: they must not time out."""
    assert trial_compile.try_compile(unchecked_grammar({"type": "string", "pattern": "^[a-z]{1,5}$"})) == ""
    endless = unchecked_grammar({"enum": [{"a": number} for number in range(60_000)]})
    assert "too long" in trial_compile.try_compile(endless)
    monkeypatch.setattr(trial_compile, "WAIT_SECONDS", 0.001)
    assert "busy" in trial_compile.try_compile(endless)
