"""Agno's agent with its model for services that speak OpenAI's format."""

from __future__ import annotations

from typing import Any

import checks
from agno.agent import Agent
from agno.media import Image
from agno.models.openai.like import OpenAILike
from counts import Counts, report_count


def agent(**more: Any) -> Any:
    model = OpenAILike(id=checks.MODEL, base_url=checks.API, api_key=checks.KEY)
    return Agent(model=model, telemetry=False, **more)


def shelf() -> list[Any]:
    return [Image(filepath=checks.SHELF)]


def text() -> None:
    checks.equal(agent().run(checks.HELLO).content, checks.HELLO_ANSWER)


def picture() -> None:
    checks.equal(agent().run(checks.HOW_MANY, images=shelf()).content, checks.HOW_MANY_ANSWER)


def stream() -> None:
    parts = [event.content or "" for event in agent().run(checks.HELLO, stream=True) if event.event == "RunContent"]
    checks.equal("".join(parts), checks.HELLO_ANSWER)


def schema() -> None:
    answer = agent(output_schema=Counts).run(checks.COUNT, images=shelf())
    checks.equal(answer.content.model_dump(), checks.COUNTS)


def tools() -> None:
    answer = agent(tools=[report_count], tool_choice="required", tool_call_limit=1).run(checks.COUNT, images=shelf())
    checks.equal([call.tool_args for call in answer.tools][:1], [checks.COUNTS])


checks.run("agno", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
