"""Checks of complete answers for what their grammar does not enforce."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vlrun.errors import OptionError
from vlrun.structured.schema_validator import SchemaValidator
from vlrun.types.turn import ToolCall


@dataclass(frozen=True)
class AnswerChecks:
    """What an answer is checked for.

    Attributes:
        schema: Checks the JSON of an answer without calls.
        tools: Checks the arguments of calls, by name.
        lenient: Names of tools whose arguments may violate their schema; a note then says so.
        notes: Messages for the user, before the model runs.
    """

    schema: SchemaValidator | None = None
    tools: Mapping[str, SchemaValidator] = field(default_factory=dict)
    lenient: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def violation(self, text: str) -> str | None:
        """Return how an answer violates the schema, or None."""
        return None if self.schema is None else _violation(self.schema, text, "the answer", "the schema")

    def call_violations(self, calls: Iterable[ToolCall]) -> Iterator[tuple[bool, str]]:
        """Yield how calls violate the parameters of their tools, each with whether they may."""
        for call in calls:
            if call.name in self.tools:
                subject, schema = f"the call of '{call.name}'", "its parameters"
                if found := _violation(self.tools[call.name], call.arguments, subject, schema):
                    yield call.name in self.lenient, found


NO_CHECKS = AnswerChecks()


def _violation(validator: SchemaValidator, text: str, subject: str, schema: str) -> str | None:
    try:
        pointer = validator.violation(json.loads(text))
    except (ValueError, RecursionError):
        return f"{subject} is not JSON"
    except OptionError as error:
        return error.message
    return f"{subject} violates {schema} at {pointer}" if pointer else None
