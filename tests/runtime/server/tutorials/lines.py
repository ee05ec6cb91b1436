"""As tutorials do it: a stream read line by line, over several turns. URL IMAGE."""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

import requests

BASE, IMAGE = sys.argv[1:]
MODEL = requests.get(f"{BASE}/v1/models", timeout=10).json()["data"][0]["id"]


def stream(messages: list[dict[str, Any]]) -> str:
    text = ""
    data: Any = {"model": MODEL, "messages": messages, "stream": True, "temperature": 0}
    with requests.post(f"{BASE}/v1/chat/completions", json=data, stream=True, timeout=60) as response:
        for raw in response.iter_lines():
            line = raw.decode("utf-8")
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                break
            delta = json.loads(line[6:])["choices"][0]["delta"]
            text += delta.get("content") or ""
    return text


with open(IMAGE, "rb") as file:  # noqa: PTH123 - as people write it
    url = f"data:image/png;base64,{base64.b64encode(file.read()).decode()}"
history: list[dict[str, Any]] = []
for question in ("How many bottles are there?", "How many cans are there?"):
    content: Any = question
    if not history:
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    history.append({"role": "user", "content": content})
    answer = stream(history)
    history.append({"role": "assistant", "content": answer})
    print(answer)
