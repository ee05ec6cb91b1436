"""OpenAI's Agents SDK with its default, the Responses API, and with chat completions."""

from __future__ import annotations

from typing import Any

import checks
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from counts import Counts, report_count
from openai import AsyncOpenAI

set_tracing_disabled(True)
MODELS: list[Any] = [OpenAIResponsesModel, OpenAIChatCompletionsModel]


def question(text: str) -> list[Any]:
    image = {"type": "input_image", "image_url": checks.SHELF_URL, "detail": "auto"}
    return [{"role": "user", "content": [{"type": "input_text", "text": text}, image]}]


def agents(**more: Any) -> list[Any]:
    client = AsyncOpenAI(base_url=checks.API, api_key=checks.KEY)
    return [Agent(name="shelf", model=model(checks.MODEL, openai_client=client), **more) for model in MODELS]


async def text() -> None:
    for agent in agents():
        checks.equal((await Runner.run(agent, checks.HELLO)).final_output, checks.HELLO_ANSWER)


async def picture() -> None:
    for agent in agents():
        checks.equal((await Runner.run(agent, question(checks.HOW_MANY))).final_output, checks.HOW_MANY_ANSWER)


async def stream() -> None:
    for agent in agents():
        answer = Runner.run_streamed(agent, checks.HELLO)
        async for _ in answer.stream_events():
            pass
        checks.equal(answer.final_output, checks.HELLO_ANSWER)


async def schema() -> None:
    for agent in agents(output_type=Counts):
        answer = await Runner.run(agent, question(checks.COUNT))
        checks.equal(answer.final_output.model_dump(), checks.COUNTS)


async def tools() -> None:
    settings = ModelSettings(tool_choice="required")
    for agent in agents(
        tools=[function_tool(report_count)], model_settings=settings, tool_use_behavior="stop_on_first_tool"
    ):
        checks.equal((await Runner.run(agent, question(checks.COUNT))).final_output, "6 1")


checks.run("openai-agents", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
