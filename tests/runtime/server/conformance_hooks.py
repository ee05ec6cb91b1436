"""What schemathesis does beside its own checks, in its own process: SCHEMATHESIS_HOOKS names this file.

Knows which refusals no JSON Schema can tell; knows no server.
"""

from __future__ import annotations

import re
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.specs.openapi.checks import positive_data_acceptance

FEW_TOKENS = 8
FORMS = ("/api/v1/chat", "/api/v1/analyze")
LENGTHS = {
    "/v1/chat/completions": ("max_tokens", "max_completion_tokens"),
    "/v1/responses": ("max_output_tokens",),
}

UNSAYABLE = (
    # one field that depends on another's value
    r"tool_choice is required, but there are no tools",
    r'tool_choice names ".*", which is not among the tools',
    r"top_logprobs needs ",
    r"stream_options needs stream to be true",
    r"max_tokens and max_completion_tokens differ",
    r"store must be false",
    r"messages is missing",  # of tokenize, which takes a prompt too
    r"prompt counts a text alone",
    r".*\.type must be (in|out)put_text in a message of the (user|assistant)",
    r".* is an image: only user messages may have images",
    r".*: system messages must come before all others",
    r".*\.content is missing, and there are no tool_calls",
    r".*\.tool_call_id is not the id of an earlier call",
    r".*\.call_id is not the id of an earlier call",
    r".*\.name is taken by another function",
    # what a text, a schema or a file says
    r".*arguments must be the JSON text of an object",
    r"the image's base64 is broken",
    r"the image is ",  # empty, no image, damaged
    r"the (schema|pattern|parameters|tools)\b",
    r"an image of \d+ x \d+ is too narrow a strip",
    r"the request's JSON has a NUL character or a lone surrogate in a string",
    r"the form holds text that is not UTF-8, or has a NUL",
    # what is counted over the whole request
    r"a request may have at most \d+ images",
    r"the request has more than \d+ characters of text",
    r"the prompt has \d+ tokens",
)
"""The beginnings of messages to requests that the document allows and the service does not."""
_UNSAYABLE = re.compile("|".join(UNSAYABLE))


@schemathesis.check
def refuses_only_what_no_schema_can_say(ctx: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """`positive_data_acceptance`, which would have every request that fits the document answered."""
    try:
        positive_data_acceptance(ctx, response, case)
    except Failure:
        if not _UNSAYABLE.match(response.json()["error"]["message"]):
            raise
    return None


@schemathesis.hook
def filter_case(ctx: HookContext, case: Case[Any]) -> bool:
    """A form knows texts alone: a question of another type arrives as its text, an empty list not at all. None of these
    can be refused.
    """
    if case.operation.path not in FORMS or not isinstance(case.body, dict):
        return True
    question = case.body.get("query", "")
    return isinstance(question, str) and not any(isinstance(value, list | dict) for value in case.body.values())


@schemathesis.hook
def before_call(ctx: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Answers are cut short: what matters is their form. A request that is meant to be wrong stays as it is."""
    names = LENGTHS.get(case.operation.path, ())
    if names and case.meta and case.meta.generation.mode.is_positive and isinstance(case.body, dict):
        case.body = case.body | dict.fromkeys(names, FEW_TOKENS)
