"""As tutorials do it: a payload in OpenAI's form, by hand, with all the knobs. URL IMAGE."""

from __future__ import annotations

import base64
import sys
from typing import Any

import requests

BASE, IMAGE = sys.argv[1:]


def encode_image(path: str) -> str:
    with open(path, "rb") as file:  # noqa: PTH123 - as people write it
        return base64.b64encode(file.read()).decode("utf-8")


payload: Any = {
    "model": "qwen3-vl-2b",
    "messages": [
        {
            "role": "user",
            "content": [
                {
                    "type": "image_url",
                    "image_url": {"url": f"data:image/jpeg;base64,{encode_image(IMAGE)}", "detail": "high"},
                },
                {"type": "text", "text": "How many bottles are there?"},
            ],
        },
    ],
    "max_tokens": 512,
    "temperature": 0.1,
    "top_p": 0.8,
    "repetition_penalty": 1.05,
    "stream": False,
}
headers = {"Content-Type": "application/json", "Authorization": "Bearer EMPTY"}
response = requests.post(f"{BASE}/v1/chat/completions", headers=headers, json=payload, timeout=60)
response.raise_for_status()
result = response.json()
print(result["choices"][0]["message"]["content"])
print("tokens:", result["usage"]["prompt_tokens"], result["usage"]["completion_tokens"])
