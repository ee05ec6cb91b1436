"""Users that ask about all pictures, for Locust; ``EXAMPLES`` in the environment is the folder of the pictures."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

from locust import HttpUser, task

EXAMPLES = Path(os.environ["EXAMPLES"])
ROUNDS = 3
QUESTIONS = {
    "shelf.png": ("How many bottles are there?", "6"),
    "shelf_two.png": ("How many bottles are there?", "3"),
    "price_tag.png": ("What does it cost?", "$26.42"),
    "word.png": ("What does the text say?", "SUGAR"),
}
HELLO, HELLO_ANSWER = "Who are you?", "I am the tiny demo model of vlrun. Show me a picture."
working = int(os.environ["USERS"])


class Asker(HttpUser):
    """Asks each question a few times; after the last user the run is over."""

    @task
    def ask(self) -> None:
        global working  # noqa: PLW0603 - how a locustfile counts its users
        for _ in range(ROUNDS):
            self.check("text", HELLO, HELLO_ANSWER)
            for picture, (question, answer) in QUESTIONS.items():
                url = "data:image/png;base64," + base64.b64encode((EXAMPLES / picture).read_bytes()).decode()
                parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}]
                self.check("picture", parts, answer)
            self.check("stream", HELLO, HELLO_ANSWER, stream=True)
        working -= 1
        if working == 0:
            self.environment.runner.quit()
        self.stop()

    def check(self, name: str, content: Any, right: str, **more: Any) -> None:
        """Send a request; a wrong answer is a failure, as a status of 400 or more is."""
        body = {"model": "vlrun-tiny", "messages": [{"role": "user", "content": content}], **more}
        with self.client.post("/v1/chat/completions", json=body, name=name, catch_response=True, **more) as response:
            if response.status_code == 200 and (given := text_of(response, bool(more))) != right:
                response.failure(f"{given!r} is not {right!r}")


def text_of(response: Any, streamed: bool) -> str:
    if not streamed:
        return str(response.json()["choices"][0]["message"]["content"])
    data = [line.removeprefix(b"data: ") for line in response.iter_lines() if line.startswith(b"data: ")]
    chunks = [json.loads(line) for line in data if line != b"[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
