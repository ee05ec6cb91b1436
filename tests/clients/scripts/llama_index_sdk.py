"""LlamaIndex with its model for services that speak OpenAI's format."""

from __future__ import annotations

from typing import Any

import checks
from counts import Counts, report_count
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

model: Any = OpenAILike(
    model=checks.MODEL,
    api_base=checks.API,
    api_key=checks.KEY,
    is_chat_model=True,
    is_function_calling_model=True,
    context_window=4096,
)


def question(text: str) -> ChatMessage:
    return ChatMessage(role="user", blocks=[TextBlock(text=text), ImageBlock(path=checks.SHELF)])


def text() -> None:
    checks.equal(model.chat([ChatMessage(role="user", content=checks.HELLO)]).message.content, checks.HELLO_ANSWER)
    checks.equal(model.complete(checks.HELLO).text, checks.HELLO_ANSWER)


def picture() -> None:
    checks.equal(model.chat([question(checks.HOW_MANY)]).message.content, checks.HOW_MANY_ANSWER)


def stream() -> None:
    parts = model.stream_chat([ChatMessage(role="user", content=checks.HELLO)])
    checks.equal("".join(part.delta or "" for part in parts), checks.HELLO_ANSWER)


def schema() -> None:
    answer = model.as_structured_llm(Counts).chat([question(checks.COUNT)])
    checks.equal(answer.raw.model_dump(), checks.COUNTS)


def tools() -> None:
    tool = FunctionTool.from_defaults(report_count)
    answer = model.chat_with_tools([tool], chat_history=[question(checks.COUNT)], tool_required=True)
    calls = model.get_tool_calls_from_response(answer)
    checks.equal([call.tool_kwargs for call in calls], [checks.COUNTS])


checks.run("llama-index-llms-openai-like", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
