"""As tutorials do it: an image and a question as a form. URL IMAGE."""

from __future__ import annotations

import sys

import requests

BASE, IMAGE = sys.argv[1:]

with open(IMAGE, "rb") as image:  # noqa: PTH123 - as people write it
    response = requests.post(
        f"{BASE}/api/v1/chat", files={"image": image}, data={"query": "How many bottles are there?"}, timeout=60
    )
print(response.json()["answer"])

files = {"image": ("shelf.png", open(IMAGE, "rb"), "image/png")}  # noqa: PTH123, SIM115
response = requests.post(f"{BASE}/api/v1/analyze", files=files, data={"query": "有多少个瓶子？"}, timeout=60)
if response.status_code == 200:
    print(response.json()["text"])
else:
    print("failed:", response.status_code, response.text)
files["image"][1].close()
