"""The OpenAPI document and the parsers agree on which requests are valid, whatever fields they have."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.runtime.server.api.test_fields import CHAT, RESPONSES, parsed
from tests.runtime.server.api.test_validation import ANYTHING, containers_and_keys
from tests.runtime.server.conformance_hooks import BEYOND_SCHEMA
from vlrun.server.api import fields, strict_json
from vlrun.server.api.openapi import document
from vlrun.server.api_errors import ApiError
from vlrun.server.limits import ServerLimits

DOCUMENT = document(ServerLimits(), "vlrun-tiny", keyed=False)
NAMES = sorted({*fields.CHAT.ignored, *fields.CHAT.only, *fields.CHAT.refused, *fields.PART.ignored, "future_field"})
BEYOND = re.compile("|".join(BEYOND_SCHEMA))
VALUES = st.one_of(ANYTHING, st.sampled_from([member for values in fields.CHAT.only.values() for member in values]))


def valid(value: object, name: str) -> bool:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return Draft202012Validator(schema).is_valid(value)


def refusal(endpoint: str, value: object) -> str | None:
    """The message of the error, None if the request is accepted."""
    try:
        parsed(endpoint, value)
    except ApiError as error:
        return error.message
    return None


@pytest.mark.parametrize(
    ("endpoint", "name", "full"), [("chat", "ChatRequest", CHAT), ("responses", "ResponsesRequest", RESPONSES)]
)
def test_the_document_and_the_parser_agree(endpoint: str, name: str, full: dict[str, Any]) -> None:
    """Guards against fields that are ignored and not documented, or the reverse, in any object of a request."""

    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def check(data: st.DataObject) -> None:
        value = copy.deepcopy(full)
        container, key = data.draw(st.sampled_from(containers_and_keys(value)))
        if data.draw(st.booleans()) and isinstance(container, dict):
            container[data.draw(st.sampled_from(NAMES))] = data.draw(VALUES)
        else:
            container[key] = data.draw(VALUES)
        try:
            sent = strict_json.parse(json.dumps(value).encode(), ServerLimits())
        except ApiError:  # NaN or a NUL, which JSON Schema does not see
            return
        message = refusal(endpoint, sent)
        if message is None:
            assert valid(sent, name)
        else:
            assert not valid(sent, name) or BEYOND.match(message), message

    check()
