"""browser-use's model with the schema that its agent sends at every step: all actions of a browser."""

from __future__ import annotations

from typing import Any

import checks
from browser_use.agent.views import AgentOutput
from browser_use.llm import ChatOpenAI
from browser_use.llm.messages import ContentPartImageParam, ContentPartTextParam, ImageURL, UserMessage
from browser_use.tools.service import Tools
from counts import Counts


def model() -> Any:
    """A model for one event loop."""
    return ChatOpenAI(model=checks.MODEL, base_url=checks.API, api_key=checks.KEY)


def question(text: str) -> list[Any]:
    image = ContentPartImageParam(image_url=ImageURL(url=checks.SHELF_URL, media_type="image/png"))
    return [UserMessage(content=[ContentPartTextParam(text=text), image])]


async def text() -> None:
    answer = await model().ainvoke([UserMessage(content=checks.HELLO)])
    checks.equal(answer.completion, checks.HELLO_ANSWER)


async def picture() -> None:
    checks.equal((await model().ainvoke(question(checks.HOW_MANY))).completion, checks.HOW_MANY_ANSWER)


async def schema() -> None:
    answer = await model().ainvoke(question(checks.COUNT), output_format=Counts)
    checks.equal(answer.completion.model_dump(), checks.COUNTS)


async def tools() -> None:
    output = AgentOutput.type_with_custom_actions(Tools().registry.create_action_model())
    answer = await model().ainvoke(question(checks.HOW_MANY), output_format=output)
    checks.is_true(answer.completion.action)


checks.run("browser-use", text=text, picture=picture, schema=schema, tools=tools)
