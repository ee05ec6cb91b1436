"""Pydantic AI with its model for OpenAI's chat completions."""

from __future__ import annotations

from typing import Any

import checks
from counts import Counts
from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

model = OpenAIChatModel(checks.MODEL, provider=OpenAIProvider(base_url=checks.API, api_key=checks.KEY))
SHELF = BinaryContent(checks.SHELF.read_bytes(), media_type="image/png")


def report_count(bottles: int, cans: int) -> dict[str, Any]:
    """Report the counts."""
    return {"bottles": bottles, "cans": cans}


def text() -> None:
    checks.equal(Agent(model).run_sync(checks.HELLO).output, checks.HELLO_ANSWER)


def picture() -> None:
    checks.equal(Agent(model).run_sync([checks.HOW_MANY, SHELF]).output, checks.HOW_MANY_ANSWER)


async def stream() -> None:
    async with Agent(model).run_stream(checks.HELLO) as answer:
        checks.equal("".join([part async for part in answer.stream_text(delta=True)]), checks.HELLO_ANSWER)


def schema() -> None:
    for output in (Counts, NativeOutput(Counts)):
        answer = Agent(model, output_type=output).run_sync([checks.COUNT, SHELF]).output
        checks.equal(answer.model_dump(), checks.COUNTS)


def tools() -> None:
    checks.equal(Agent(model, output_type=report_count).run_sync([checks.COUNT, SHELF]).output, checks.COUNTS)


checks.run("pydantic-ai-slim", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
