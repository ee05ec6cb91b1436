"""As tutorials do it: a shelf counted into JSON, several times, and the majority counts. URL IMAGE."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections import Counter
from typing import Any

import requests

BASE, IMAGE = sys.argv[1:]
RUNS = 5
PROMPT = "Count the bottles and cans. Answer in JSON."

with open(IMAGE, "rb") as file:  # noqa: PTH123 - as people write it
    image = base64.b64encode(file.read()).decode()


def ask(seed: int) -> dict[str, int]:
    content: Any = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + image}},
        {"type": "text", "text": PROMPT},
    ]
    answer = requests.post(
        BASE + "/v1/chat/completions",
        json={
            "model": "qwen3-vl-2b",
            "messages": [{"role": "user", "content": content}],
            "temperature": 0.3,
            "max_tokens": 200,
            "seed": seed,
        },
        timeout=60,
    ).json()["choices"][0]["message"]["content"]
    found = re.search(r"\{.*\}", answer, re.DOTALL)  # models like to put ```json around it
    counts: dict[str, int] = json.loads(found.group()) if found else {}
    return counts


runs = [ask(seed) for seed in range(RUNS)]
items = sorted({item for run in runs for item in run})
votes = {item: Counter(run[item] for run in runs if item in run).most_common(1)[0] for item in items}
print(json.dumps({item: count for item, (count, _) in votes.items()}))
print(json.dumps({item: f"{times}/{RUNS}" for item, (_, times) in votes.items()}))
