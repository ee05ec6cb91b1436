"""Hooks for schemathesis, which loads this file from SCHEMATHESIS_HOOKS in its own process."""

from __future__ import annotations

import re
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.specs.openapi.checks import positive_data_acceptance

FEW_TOKENS = 8
FORMS = ("/api/v1/chat", "/api/v1/analyze")
OLLAMA = ("/api/chat", "/api/generate")
LENGTHS = {
    "/v1/chat/completions": ("max_tokens", "max_completion_tokens"),
    "/v1/completions": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",),
    "/v1/messages": ("max_tokens",),
}

BEYOND_SCHEMA = (
    # a field that depends on the value of another
    r"tool_choice is required, but there are no tools",
    r'tool_choice names ".*", which is not among the tools',
    r"top_logprobs needs ",
    r"max_tokens and max_completion_tokens differ",
    r"\d+ prompts and n \d+ are more than",
    r"echo with logprobs is not supported",
    r"best_of is not supported",  # but for the value of n
    r".*\.type must be (in|out)put_text in a message of the (user|assistant)",
    r".* is an image: only user messages may have images",
    r".*\.tool_call_id is not the id of an earlier call",
    r".*\.call_id is not the id of an earlier call",
    r".*\.tool_use_id is not the id of an earlier call",
    r".*: results must come before other parts of a message",
    r".*\.role is assistant: the service cannot continue an answer",
    r".*: only messages of users and tools may have images",
    r".*: only the assistant calls tools",
    r"options\.repeat_last_n: penalties count the whole conversation",
    r"stop strings would cut the JSON of a schema",
    r".*\.name is taken by another function",
    r"input must have a message",
    r"(items|fields) belong to a task|the task (takes|needs|has) |a task (has one answer|calls no tools)",
    r"vlrun\.(items|fields) (is missing|has an empty name)|the images of a task need the same detail",
    r"a task, votes, tiles and steps take one message|the answers of this task cannot be merged|there is no task",
    r"tiles need exactly one image|tiles, votes and steps make",
    r"logprobs need one answer|with temperature 0 all votes are the same",
    r"(a|an answer with a) heat map (needs|has) ",
    # the content of a text, a schema or a file
    r"pages are for PDF files|region and enhance are for images|the file is not a video that vlrun can read",
    r".*\.pages: '.*' names no pages|the URL names a page already|end must be after start",
    r".*arguments must be the JSON text of an object",
    r"the image's base64 is broken",
    r"the (image|file) ",  # is empty, no image, damaged
    r"the (schema|pattern|parameters|tools)\b",
    r"the region .* lies outside the image",
    r"an image of \d+ x \d+ is too narrow a strip",
    r"the request's JSON has a NUL character or a lone surrogate in a string",
    r"the form holds text that is not UTF-8, or has a NUL",
    # totals over the whole request
    r"a request may have at most \d+ images",
    r"the request has more than \d+ characters of text",
    r"the prompt has \d+ tokens",
)
"""Beginnings of error messages for requests that JSON Schema cannot exclude."""
_BEYOND_SCHEMA = re.compile("|".join(BEYOND_SCHEMA))


@schemathesis.check
def rejects_only_beyond_schema(ctx: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """`positive_data_acceptance`, except for errors that JSON Schema cannot express."""
    try:
        positive_data_acceptance(ctx, response, case)
    except Failure:
        error = response.json()["error"]
        if not _BEYOND_SCHEMA.match(error if isinstance(error, str) else error["message"]):
            raise
    return None


@schemathesis.hook
def filter_case(ctx: HookContext, case: Case[Any]) -> bool:
    """Skip forms with non-string fields: they arrive as text, an empty list not at all, so they cannot be rejected."""
    if case.operation.path not in FORMS or not isinstance(case.body, dict):
        return True
    question = case.body.get("query", "")
    return isinstance(question, str) and not any(isinstance(value, list | dict) for value in case.body.values())


@schemathesis.hook
def before_call(ctx: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Limit the answer length: only the shape matters. Requests that are meant to be invalid stay as they are."""
    path, body = case.operation.path, case.body
    if not (case.meta and case.meta.generation.mode.is_positive and isinstance(body, dict)):
        return
    if path in LENGTHS:  # otherwise the body is not set: schemathesis would judge a form's file again, as invalid
        case.body = body | dict.fromkeys(LENGTHS[path], FEW_TOKENS)
    elif path in OLLAMA:
        options = body.get("options")
        case.body = body | {"options": {**(options if isinstance(options, dict) else {}), "num_predict": FEW_TOKENS}}
