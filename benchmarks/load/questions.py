"""What clients ask: a mixture of everything the service does, wrong requests among it, and what must come back.

Knows the endpoints' JSON; does not know connections.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.load.images import SHELF_ANSWER, SHELF_QUESTION, Album, data_url, shelf
from benchmarks.load.serving import NAME
from benchmarks.load.wire import JSON

CHAT = "/v1/chat/completions"
ASKED = (SHELF_QUESTION, "What is written here?", "What do you see?", "What color is it?", "有几个瓶子？")
TALK = ("Hello", "Name three colours.", "What can you do?", "Tell me about bottles and cans.")
SCHEMA = {
    "type": "object",
    "properties": {"bottles": {"type": "integer"}},
    "required": ["bottles"],
    "additionalProperties": False,
}
TURNS = 10
"""Of the client in a conversation, before it begins another one."""
SHOWN = 0.6
"""The part of its turns that bring an image."""
SMALL = 0.6
"""The part of the album that such images come from, the smaller ones: a context has an end."""
LEAST_TOKENS, MOST_TOKENS = 8, 48
_BOUNDARY = "----vlrun-load"

Check = Callable[[bytes], str]
"""What is wrong with the body of an answer; empty if nothing is."""


@dataclass(frozen=True)
class Question:
    """A request. ``status``: what it must be answered with; ``check``: looks at the answer's body."""

    name: str
    path: str
    body: bytes
    check: Check
    status: int = 200
    kind: str = JSON
    stream: bool = False


class Mixture:
    """The questions of one client, drawn by its own ``seed``; its conversation grows turn by turn. ``trained``: whether
    the model can count bottles.
    """

    def __init__(self, album: Album, seed: str, trained: bool = True) -> None:
        self._album = album
        self._judge: Check = _is_answer if trained else lambda _: ""
        self._draw = random.Random(seed)
        self._talk: list[dict[str, Any]] = []
        self._shares: dict[Callable[[], Question], int] = {
            self._image: 26,
            self._shelf: 14,
            self._text: 14,
            self._conversation: 14,
            self._schema: 8,
            self._several: 6,
            self._strange: 4,
            self._tokens: 5,
            self._form: 4,
            self._wrong: 5,
        }

    def next(self) -> Question:
        """The next one."""
        makers = list(self._shares)
        return self._draw.choices(makers, [self._shares[maker] for maker in makers])[0]()

    def warm_up(self) -> list[Question]:
        """Every image once, the largest first, since what is large is read in threads of its own; and a bit of
        everything.
        """
        about_each = [self._chat("an image", self._asked(url)) for url in reversed(self._album.urls)]
        return [*about_each, *(make() for make in self._shares)]

    def _chat(
        self, name: str, messages: Sequence[dict[str, Any]], check: Check | None = None, **options: Any
    ) -> Question:
        stream = self._draw.random() < 0.5
        body = {"model": NAME, "messages": messages, "temperature": 0, **options}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        encoded = json.dumps({"max_tokens": self._draw.randint(LEAST_TOKENS, MOST_TOKENS), **body}).encode()
        judged = check or (lambda _: "")
        return Question(
            f"{name}, {'streamed' if stream else 'whole'}",
            CHAT,
            encoded,
            (lambda answer: _streamed(answer, judged)) if stream else (lambda answer: _whole(answer, judged)),
            stream=stream,
        )

    def _asked(self, url: str | None = None) -> list[dict[str, Any]]:
        image = {"type": "image_url", "image_url": {"url": url or self._draw.choice(self._album.urls)}}
        return [{"role": "user", "content": [image, {"type": "text", "text": self._draw.choice(ASKED)}]}]

    def _image(self) -> Question:
        return self._chat("an image", self._asked())

    def _strange(self) -> Question:
        return self._chat("a new image", self._asked(self._album.strange(self._draw)))

    def _shelf(self) -> Question:
        return self._chat("the shelf", _about_shelf(), self._judge)

    def _text(self) -> Question:
        return self._chat("text", [{"role": "user", "content": self._draw.choice(TALK)}], temperature=1)

    def _several(self) -> Question:
        return self._chat("two answers", self._asked(), n=2, temperature=1, seed=self._draw.randint(0, 1000))

    def _schema(self) -> Question:
        form = {"type": "json_schema", "json_schema": {"name": "bottles", "schema": SCHEMA}}
        return self._chat("a schema", self._asked(), _is_object, response_format=form)

    def _conversation(self) -> Question:
        """A further turn, most often with another image. What the model said is put in its mouth: the client may
        have left before it heard it.
        """
        if len(self._talk) >= 2 * TURNS:
            self._talk = []
        if self._talk:
            self._talk.append({"role": "assistant", "content": "Well."})
        shown = self._draw.random() < SHOWN
        self._talk += self._asked(self._small()) if shown else [{"role": "user", "content": "And now?"}]
        return self._chat("a conversation", self._talk, max_tokens=LEAST_TOKENS)

    def _small(self) -> str:
        """An image of which ten fit into a conversation."""
        urls = self._album.urls
        return self._draw.choice(urls[: math.ceil(SMALL * len(urls))])

    def _tokens(self) -> Question:
        body = json.dumps({"messages": self._asked()}).encode()
        return Question("tokens counted", "/v1/tokenize", body, _counts)

    def _form(self) -> Question:
        field = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="query"\r\n\r\n{SHELF_QUESTION}\r\n'
        file = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="s.png"\r\n\r\n'
        body = field.encode() + file.encode() + shelf() + f"\r\n--{_BOUNDARY}--\r\n".encode()
        kind = f"multipart/form-data; boundary={_BOUNDARY}"
        return Question("a form", "/api/v1/chat", body, lambda said: self._judge(_form_answer(said)), kind=kind)

    def _wrong(self) -> Question:
        said = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}]}
        body, status = self._draw.choice(
            [
                ({**said, "temperature": 5}, 400),
                ({**said, "n": 10**9}, 400),
                ({**said, "chat_template": "{{ 1 }}"}, 400),
                ({**said, "model": "../../x"}, 404),
                ({**said, "messages": self._asked("http://169.254.169.254/")}, 400),
                ({**said, "messages": self._asked(data_url(shelf()[:500]))}, 400),
                ({**said, "messages": "[" * 100_000}, 400),
            ]
        )
        return Question("a wrong request", CHAT, json.dumps(body).encode(), _is_fault, status)


def _about_shelf() -> list[dict[str, Any]]:
    image = {"type": "image_url", "image_url": {"url": data_url(shelf())}}
    return [{"role": "user", "content": [image, {"type": "text", "text": SHELF_QUESTION}]}]


def _whole(body: bytes, check: Check) -> str:
    """Of a whole answer; ``check`` sees each choice that came to its end."""
    choices = json.loads(body)["choices"]
    ended = [choice["message"]["content"] for choice in choices if choice["finish_reason"] == "stop"]
    return next(filter(None, (check(text.encode()) for text in ended)), "")


def _streamed(body: bytes, check: Check) -> str:
    """Of a stream, which must end as OpenAI's do."""
    events = [line[6:] for line in body.split(b"\n\n") if line.startswith(b"data: ")]
    if not events or events[-1] != b"[DONE]":
        return f"the stream ended with {events[-1][:200].decode() if events else 'nothing'}"
    said: dict[int, str] = {}
    ended: set[int] = set()
    for event in events[:-1]:
        for choice in json.loads(event)["choices"]:
            said[choice["index"]] = said.get(choice["index"], "") + choice["delta"].get("content", "")
            ended |= {choice["index"]} if choice["finish_reason"] == "stop" else set()
    return next(filter(None, (check(said[index].encode()) for index in ended)), "")


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
    return "" if json.loads(body)["error"]["message"] else "the error says nothing"
