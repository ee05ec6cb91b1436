"""A mix of requests that covers all features of the service, invalid requests included, with a check of each answer."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.load.http_client import JSON
from benchmarks.load.images import SHELF_ANSWER, SHELF_QUESTION, ImageSet, data_url, shelf
from benchmarks.load.service_process import MODEL_NAME

CHAT = "/v1/chat/completions"
IMAGE_QUESTIONS = (SHELF_QUESTION, "What is written here?", "What do you see?", "What color is it?", "有几个瓶子？")
CHAT_TEXTS = ("Hello", "Name three colours.", "What can you do?", "Tell me about bottles and cans.")
SCHEMA = {
    "type": "object",
    "properties": {"bottles": {"type": "integer"}},
    "required": ["bottles"],
    "additionalProperties": False,
}
TURNS = 10
"""User turns of a conversation before a new one begins."""
IMAGE_SHARE = 0.6
"""Share of turns with an image."""
SMALL_IMAGES = 0.6
"""Share of the images used there, the smaller ones, because the context is limited."""
MIN_TOKENS, MAX_TOKENS = 8, 48
_BOUNDARY = "----vlrun-load"

Check = Callable[[bytes], str]
"""Returns what is wrong with the body of an answer; empty if nothing is."""


@dataclass(frozen=True)
class CheckedRequest:
    """A request with its expected ``status`` and a ``check`` of the body of its answer."""

    name: str
    path: str
    body: bytes
    check: Check
    status: int = 200
    content_type: str = JSON
    stream: bool = False


class RequestMix:
    """The requests of one client, determined by ``seed``; its conversation grows turn by turn.

    ``trained``: whether the model can count bottles.
    """

    def __init__(self, images: ImageSet, seed: str, trained: bool = True) -> None:
        self._images = images
        self._check_answer: Check = _is_answer if trained else lambda _: ""
        self._draw = random.Random(seed)
        self._messages: list[dict[str, Any]] = []
        self._shares: dict[Callable[[], CheckedRequest], int] = {
            self._image: 26,
            self._shelf: 14,
            self._text: 14,
            self._conversation: 14,
            self._schema: 8,
            self._several: 6,
            self._unseen_image: 4,
            self._tokens: 5,
            self._form: 4,
            self._wrong: 5,
        }

    def next(self) -> CheckedRequest:
        """Draw the next request."""
        makers = list(self._shares)
        return self._draw.choices(makers, [self._shares[maker] for maker in makers])[0]()

    def warm_up(self) -> list[CheckedRequest]:
        """Every image once, the largest first because the service decodes large ones in separate threads; and one of
        each kind.
        """
        about_each = [self._chat("an image", self._image_messages(url)) for url in reversed(self._images.urls)]
        return [*about_each, *(make() for make in self._shares)]

    def _chat(
        self, name: str, messages: Sequence[dict[str, Any]], check: Check | None = None, **options: Any
    ) -> CheckedRequest:
        stream = self._draw.random() < 0.5
        body = {"model": MODEL_NAME, "messages": messages, "temperature": 0, **options}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        encoded = json.dumps({"max_tokens": self._draw.randint(MIN_TOKENS, MAX_TOKENS), **body}).encode()
        check_text = check or (lambda _: "")
        return CheckedRequest(
            f"{name}, {'streamed' if stream else 'whole'}",
            CHAT,
            encoded,
            (lambda answer: _streamed(answer, check_text)) if stream else (lambda answer: _whole(answer, check_text)),
            stream=stream,
        )

    def _image_messages(self, url: str | None = None) -> list[dict[str, Any]]:
        image = {"type": "image_url", "image_url": {"url": url or self._draw.choice(self._images.urls)}}
        return [{"role": "user", "content": [image, {"type": "text", "text": self._draw.choice(IMAGE_QUESTIONS)}]}]

    def _image(self) -> CheckedRequest:
        return self._chat("an image", self._image_messages())

    def _unseen_image(self) -> CheckedRequest:
        return self._chat("a new image", self._image_messages(self._images.unseen_image(self._draw)))

    def _shelf(self) -> CheckedRequest:
        return self._chat("the shelf", _about_shelf(), self._check_answer)

    def _text(self) -> CheckedRequest:
        return self._chat("text", [{"role": "user", "content": self._draw.choice(CHAT_TEXTS)}], temperature=1)

    def _several(self) -> CheckedRequest:
        return self._chat("two answers", self._image_messages(), n=2, temperature=1, seed=self._draw.randint(0, 1000))

    def _schema(self) -> CheckedRequest:
        form = {"type": "json_schema", "json_schema": {"name": "bottles", "schema": SCHEMA}}
        return self._chat("a schema", self._image_messages(), _is_object, response_format=form)

    def _conversation(self) -> CheckedRequest:
        """Add a turn, most often with an image.

        The assistant's turns are invented, because the client may have left before the answer came.
        """
        if len(self._messages) >= 2 * TURNS:
            self._messages = []
        if self._messages:
            self._messages.append({"role": "assistant", "content": "Well."})
        with_image = self._draw.random() < IMAGE_SHARE
        self._messages += (
            self._image_messages(self._small()) if with_image else [{"role": "user", "content": "And now?"}]
        )
        return self._chat("a conversation", self._messages, max_tokens=MIN_TOKENS)

    def _small(self) -> str:
        """An image of which ten fit into a conversation."""
        urls = self._images.urls
        return self._draw.choice(urls[: math.ceil(SMALL_IMAGES * len(urls))])

    def _tokens(self) -> CheckedRequest:
        body = json.dumps({"messages": self._image_messages()}).encode()
        return CheckedRequest("tokens counted", "/v1/tokenize", body, _counts)

    def _form(self) -> CheckedRequest:
        field = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="query"\r\n\r\n{SHELF_QUESTION}\r\n'
        file = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="s.png"\r\n\r\n'
        body = field.encode() + file.encode() + shelf() + f"\r\n--{_BOUNDARY}--\r\n".encode()
        content_type = f"multipart/form-data; boundary={_BOUNDARY}"
        return CheckedRequest(
            "a form",
            "/api/v1/chat",
            body,
            lambda body: self._check_answer(_form_answer(body)),
            content_type=content_type,
        )

    def _wrong(self) -> CheckedRequest:
        valid = {"model": MODEL_NAME, "messages": [{"role": "user", "content": "Hello"}]}
        body, status = self._draw.choice(
            [
                ({**valid, "temperature": 5}, 400),
                ({**valid, "n": 10**9}, 400),
                ({**valid, "chat_template": "{{ 1 }}"}, 400),
                ({**valid, "model": "../../x"}, 404),
                ({**valid, "messages": self._image_messages("http://169.254.169.254/")}, 400),
                ({**valid, "messages": self._image_messages(data_url(shelf()[:500]))}, 400),
                ({**valid, "messages": "[" * 100_000}, 400),
            ]
        )
        return CheckedRequest("a wrong request", CHAT, json.dumps(body).encode(), _is_fault, status)


def _about_shelf() -> list[dict[str, Any]]:
    image = {"type": "image_url", "image_url": {"url": data_url(shelf())}}
    return [{"role": "user", "content": [image, {"type": "text", "text": SHELF_QUESTION}]}]


def _whole(body: bytes, check: Check) -> str:
    """Check each choice of a whole answer that is complete."""
    choices = json.loads(body)["choices"]
    ended = [choice["message"]["content"] for choice in choices if choice["finish_reason"] == "stop"]
    return next(filter(None, (check(text.encode()) for text in ended)), "")


def _streamed(body: bytes, check: Check) -> str:
    """Check a stream, which must end as OpenAI's do."""
    events = [line[6:] for line in body.split(b"\n\n") if line.startswith(b"data: ")]
    if not events or events[-1] != b"[DONE]":
        return f"the stream ended with {events[-1][:200].decode() if events else 'nothing'}"
    texts: dict[int, str] = {}
    ended: set[int] = set()
    for event in events[:-1]:
        for choice in json.loads(event)["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["delta"].get("content", "")
            ended |= {choice["index"]} if choice["finish_reason"] == "stop" else set()
    return next(filter(None, (check(texts[index].encode()) for index in ended)), "")


def _is_answer(text: bytes) -> str:
    return "" if text.decode() == SHELF_ANSWER else f"the shelf has {SHELF_ANSWER} bottles, not {text.decode()[:80]}"


def _is_object(text: bytes) -> str:
    value = json.loads(text)
    right = isinstance(value, dict) and list(value) == ["bottles"] and isinstance(value["bottles"], int)
    return "" if right else f"the schema was not followed: {text.decode()[:80]}"


def _counts(body: bytes) -> str:
    return "" if json.loads(body)["count"] > 0 else "no tokens were counted"


def _form_answer(body: bytes) -> bytes:
    return str(json.loads(body)["answer"]).encode()


def _is_fault(body: bytes) -> str:
    return "" if json.loads(body)["error"]["message"] else "the error has no message"
