"""CrewAI's model."""

from __future__ import annotations

import json
from typing import Any

import checks
from counts import Counts, report_count
from crewai import LLM


def model(**more: Any) -> Any:
    return LLM(model=f"openai/{checks.MODEL}", base_url=checks.API, api_key=checks.KEY, **more)


def text() -> None:
    checks.equal(model().call(checks.HELLO), checks.HELLO_ANSWER)


def picture() -> None:
    checks.equal(model().call(checks.question(checks.HOW_MANY)), checks.HOW_MANY_ANSWER)


def stream() -> None:
    checks.equal(model(stream=True).call(checks.HELLO), checks.HELLO_ANSWER)


def schema() -> None:
    answer = model(response_format=Counts).call(checks.question(checks.COUNT))
    given = answer.model_dump() if isinstance(answer, Counts) else json.loads(answer)
    checks.equal(given, checks.COUNTS)


def tools() -> None:
    """The model calls the function, whose result is the answer."""
    functions = {"report_count": report_count}
    answer = model().call(checks.question(checks.COUNT), tools=[checks.COUNT_TOOL], available_functions=functions)
    checks.equal(answer, "6 1")


checks.run("crewai", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
