"""LiteLLM as a library."""

from __future__ import annotations

import functools
import json

import chat_completions
import checks
import litellm
from counts import Counts

chat = functools.partial(litellm.completion, f"openai/{checks.MODEL}", api_base=checks.API, api_key=checks.KEY)


def schema() -> None:
    answer = chat(messages=checks.question(checks.COUNT), response_format=Counts)
    checks.equal(json.loads(answer.choices[0].message.content), checks.COUNTS)


checks.run("litellm", **chat_completions.all_checks(chat) | {"schema": schema})
