"""Semantic Kernel's connector for OpenAI's chat completions."""

from __future__ import annotations

import json
from typing import Any

import checks
from counts import Counts, report_count
from openai import AsyncOpenAI
from semantic_kernel import Kernel
from semantic_kernel.connectors.ai.function_choice_behavior import FunctionChoiceBehavior
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
from semantic_kernel.contents import (
    ChatHistory,
    ChatMessageContent,
    FunctionCallContent,
    ImageContent,
    TextContent,
)
from semantic_kernel.contents.utils.author_role import AuthorRole
from semantic_kernel.functions import kernel_function


def service() -> Any:
    client = AsyncOpenAI(base_url=checks.API, api_key=checks.KEY)
    return OpenAIChatCompletion(ai_model_id=checks.MODEL, async_client=client)


def history(text: str, with_image: bool = True) -> ChatHistory:
    items: list[Any] = [TextContent(text=text)]
    if with_image:
        items.append(ImageContent(data_uri=checks.SHELF_URL))
    found = ChatHistory()
    found.add_message(ChatMessageContent(role=AuthorRole.USER, items=items))
    return found


async def ask(messages: ChatHistory, **settings: Any) -> str:
    answer = await service().get_chat_message_content(messages, OpenAIChatPromptExecutionSettings(**settings))
    return str(answer)


async def text() -> None:
    checks.equal(await ask(history(checks.HELLO, with_image=False)), checks.HELLO_ANSWER)


async def picture() -> None:
    checks.equal(await ask(history(checks.HOW_MANY)), checks.HOW_MANY_ANSWER)


async def stream() -> None:
    settings = OpenAIChatPromptExecutionSettings()
    messages = history(checks.HELLO, with_image=False)
    parts = [str(part) async for part in service().get_streaming_chat_message_content(messages, settings)]
    checks.equal("".join(parts), checks.HELLO_ANSWER)


async def schema() -> None:
    checks.equal(json.loads(await ask(history(checks.COUNT), response_format=Counts)), checks.COUNTS)


async def tools() -> None:
    kernel = Kernel()
    kernel.add_function("shelf", kernel_function(report_count))
    choice = FunctionChoiceBehavior.Required(auto_invoke=False)
    settings = OpenAIChatPromptExecutionSettings(function_choice_behavior=choice)
    answer = await service().get_chat_message_content(history(checks.COUNT), settings, kernel=kernel)
    calls = [item for item in answer.items if isinstance(item, FunctionCallContent)]
    checks.equal([call.parse_arguments() for call in calls], [checks.COUNTS])


checks.run("semantic-kernel", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
