"""LangChain's model for OpenAI, in Python."""

from __future__ import annotations

from typing import Any

import checks
from counts import Counts, report_count
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

model: Any = ChatOpenAI(model=checks.MODEL, base_url=checks.API, api_key=checks.KEY)


def question(text: str) -> list[Any]:
    image = {"type": "image", "base64": checks.SHELF_BASE64, "mime_type": "image/png"}
    return [HumanMessage(content=[{"type": "text", "text": text}, image])]


def text() -> None:
    checks.equal(model.invoke(checks.HELLO).content, checks.HELLO_ANSWER)
    checks.equal([answer.content for answer in model.batch([checks.HELLO] * 2)], [checks.HELLO_ANSWER] * 2)


def picture() -> None:
    checks.equal(model.invoke(question(checks.HOW_MANY)).content, checks.HOW_MANY_ANSWER)
    checks.equal(model.invoke(checks.question(checks.HOW_MANY)).content, checks.HOW_MANY_ANSWER)


def stream() -> None:
    checks.equal("".join(chunk.content for chunk in model.stream(checks.HELLO)), checks.HELLO_ANSWER)


def schema() -> None:
    for method in ("json_schema", "function_calling"):
        answer = model.with_structured_output(Counts, method=method).invoke(question(checks.COUNT))
        checks.equal(answer.model_dump(), checks.COUNTS)


def tools() -> None:
    messages = question(checks.COUNT)
    answer = model.bind_tools([tool(report_count)], tool_choice="any").invoke(messages)
    checks.equal([call["args"] for call in answer.tool_calls], [checks.COUNTS])
    result = ToolMessage("noted", tool_call_id=answer.tool_calls[0]["id"])
    checks.is_true(
        model.bind_tools([tool(report_count)]).invoke([*messages, answer, result]).response_metadata["finish_reason"]
    )


checks.run("langchain-openai", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
