"""Requests in the shapes in which programs without a client library of their own send them.

Written after the sources of the programs named, with their defaults. The texts are shortened.
"""

from __future__ import annotations

from typing import Any

from tests.paths import EXAMPLES
from tests.runtime.server.http_client import data_url, image

URL: str = image()["image_url"]["url"]
JPEG_NAMED_URL = data_url((EXAMPLES / "shelf.png").read_bytes(), "jpeg")
"""Frigate and others call every image a JPEG."""
MODEL = "vlrun-tiny"
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


def chat(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": list(messages), **more}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def picture(url: str = URL, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def function(name: str, description: str, required: list[str], /, **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "parameters": {"type": "object", "properties": properties, "required": required},
    }


STRING = {"type": "string"}
SHORT = {"type": "string", "maxLength": 12}
"""The embedded model may write an endless string."""
LABEL = {
    "type": "object",
    "properties": {
        "name": SHORT,
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "topicality": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["name", "confidence", "topicality"],
    "additionalProperties": False,
}
LABELS = {
    "type": "object",
    "properties": {"labels": {"type": "array", "items": LABEL, "maxItems": 2}},
    "required": ["labels"],
    "additionalProperties": False,
}
TAGS = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {"tags": {"type": "array", "items": SHORT, "maxItems": 2}},
    "required": ["tags"],
    "additionalProperties": False,
}
HOME_TOOLS = [
    {
        "type": "function",
        **function(
            "HassTurnOn", "Turns on a device", [], name=STRING, area=STRING, domain={"type": "array", "items": STRING}
        ),
        "strict": False,
    },
    {"type": "function", **function("GetLiveContext", "The state of all devices", []), "strict": False},
]
PAPERLESS_TOOL = {
    "type": "function",
    "function": function(
        "DocumentClassifierSchema",
        "DocumentClassifierSchema(title: str, tags: list[str], dates: list[str])",
        ["title", "tags", "dates"],
        title={"title": "Title", **SHORT},
        tags={"items": SHORT, "title": "Tags", "type": "array", "maxItems": 2},
        dates={"items": SHORT, "title": "Dates", "type": "array", "maxItems": 1},
    ),
}
WEBUI_CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "search_notes", "arguments": ""}}

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "Frigate: an event": (CHAT, chat(user(picture(JPEG_NAMED_URL, detail="low"), text("How many bottles are there?")))),
    "Frigate 0.15: the question is no object": (
        CHAT,
        chat(user(picture(JPEG_NAMED_URL, detail="low"), "How many bottles are there?")),
    ),
    "Frigate: a review": (
        CHAT,
        chat(
            user(text("Describe the scene."), text("Camera 1"), picture(JPEG_NAMED_URL, detail="low")),
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "review_description", "schema": LABELS, "strict": True},
            },
        ),
    ),
    "Home Assistant: a command": (
        RESPONSES,
        {
            "model": MODEL,
            "input": [
                {"type": "message", "role": "developer", "content": "You are a voice assistant for Home Assistant."},
                {"type": "message", "role": "user", "content": "Turn on the light"},
                {"type": "function_call", "name": "HassTurnOn", "arguments": '{"name": "light"}', "call_id": "c1"},
                {
                    "type": "reasoning",
                    "id": "rs_1",
                    "summary": [{"type": "summary_text", "text": "The light."}],
                    "encrypted_content": "gAAA",
                },
                {"type": "function_call_output", "call_id": "c1", "output": '{"success": true}'},
                {"type": "message", "role": "user", "content": "Thanks"},
            ],
            "max_output_tokens": 40,
            "top_p": 1.0,
            "temperature": 1.0,
            "user": "01JX",
            "store": False,
            "service_tier": "auto",
            "reasoning": {"effort": "low", "summary": "auto"},
            "include": ["reasoning.encrypted_content"],
            "text": {"verbosity": "medium"},
            "tools": HOME_TOOLS,
            "stream": True,
        },
    ),
    "Home Assistant: a task with an attachment": (
        RESPONSES,
        {
            "model": MODEL,
            "input": [
                {
                    "type": "message",
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "How many bottles are there?"},
                        {"type": "input_image", "image_url": JPEG_NAMED_URL, "detail": "auto"},
                    ],
                }
            ],
            "max_output_tokens": 3000,
            "store": False,
            "text": {"format": {"type": "json_schema", "name": "count", "schema": TAGS}},
            "stream": True,
        },
    ),
    "paperless-ngx: a document": (
        CHAT,
        chat(
            {"role": "system", "content": "You are an AI assistant integrated into Paperless-ngx."},
            {"role": "user", "content": "Title, tags and dates of this document: Invoice of 3 May."},
            max_tokens=200,
            temperature=0.1,
            stream=False,
            parallel_tool_calls=True,
            tool_choice="required",
            tools=[PAPERLESS_TOOL],
        ),
    ),
    "paperless-gpt: text of a page": (
        CHAT,
        chat(
            user(text("Just transcribe the text in this image."), picture(JPEG_NAMED_URL)), temperature=0, max_tokens=20
        ),
    ),
    "Karakeep: tags of an image": (
        CHAT,
        chat(
            user(text("Analyze the attached image and suggest relevant tags."), picture(detail="low")),
            max_tokens=2048,
            response_format={"type": "json_schema", "json_schema": {"name": "schema", "strict": True, "schema": TAGS}},
        ),
    ),
    "Karakeep: through responses": (
        RESPONSES,
        {
            "model": MODEL,
            "input": [
                {
                    "type": "message",
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "Suggest relevant tags."},
                        {"type": "input_image", "image_url": URL},
                    ],
                }
            ],
            "text": {"format": {"type": "json_schema", "name": "response", "strict": True, "schema": TAGS}},
            "store": False,
            "temperature": 1,
            "top_p": 1,
            "reasoning": {"effort": "low"},
        },
    ),
    "PhotoPrism: labels": (
        RESPONSES,
        {
            "model": MODEL,
            "input": [
                {
                    "role": "system",
                    "type": "message",
                    "content": [{"type": "input_text", "text": "You are a PhotoPrism vision model."}],
                },
                {
                    "role": "user",
                    "type": "message",
                    "content": [
                        {"type": "input_text", "text": "Analyze the image and return label objects."},
                        {"type": "input_image", "image_url": JPEG_NAMED_URL, "detail": "low"},
                    ],
                },
            ],
            "text": {
                "format": {"type": "json_schema", "name": "photoprism_labels_v1", "schema": LABELS, "strict": True}
            },
            "max_output_tokens": 1024,
            "temperature": 0.1,
            "top_p": 0.9,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.1,
            "service_tier": "flex",
        },
    ),
    "docling: a picture": (CHAT, {"messages": [user(picture(), text("How many bottles are there?"))]}),
    "docling: with the parameters of its examples": (
        CHAT,
        {
            "messages": [user(picture(), text("Describe this picture."))],
            "model": MODEL,
            "seed": 42,
            "max_completion_tokens": 20,
            "temperature": 0,
            "skip_special_tokens": True,
        },
    ),
    "Open WebUI: a chat": (
        CHAT,
        {
            "stream": True,
            **chat(user(text("How many bottles are there?"), picture())),
            "stream_options": {"include_usage": True},
        },
    ),
    "Open WebUI: after a call of its own tools": (
        CHAT,
        {
            "stream": True,
            **chat(
                {"role": "system", "content": "User Context: none"},
                {"role": "user", "content": "What do my notes say?"},
                {"role": "assistant", "content": "", "reasoning_content": "Let me see.", "tool_calls": [WEBUI_CALL]},
                {
                    "role": "tool",
                    "tool_call_id": "call_1",
                    "content": [
                        {"type": "input_text", "text": "A picture."},
                        {"type": "input_image", "image_url": URL},
                    ],
                },
                tools=[
                    {"type": "function", "function": function("search_notes", "Search the notes.", [], query=STRING)}
                ],
                max_tokens=20,
            ),
        },
    ),
    "Open WebUI: a title": (
        CHAT,
        chat(
            {"role": "user", "content": '### Task:\nGenerate a concise title. JSON format: { "title": "..." }'},
            stream=False,
            max_completion_tokens=20,
        ),
    ),
}


def webui_tools() -> list[dict[str, Any]]:
    """Thirty tools of together 30 KB, as Open WebUI adds them to every request by default."""
    hint = "Use it only if the user asks for it; returns JSON with the fields id, title, snippet and updated_at. " * 6
    names = [
        f"{verb}_{noun}"
        for verb in ("search", "view", "add", "update", "delete", "list")
        for noun in ("notes", "chats", "channels", "memories", "knowledge_files")
    ]
    return [
        {
            "type": "function",
            "function": function(
                name,
                f"{name.replace('_', ' ').capitalize()}. {hint}",
                ["query"],
                query={"type": "string", "description": "What to look for."},
                count={"type": "integer", "default": 5, "description": "The most results."},
                start_timestamp={"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
            ),
        }
        for name in names
    ]
