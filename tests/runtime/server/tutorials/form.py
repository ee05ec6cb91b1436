"""As tutorials do it: a picture and a question as a form. URL PICTURE."""

from __future__ import annotations

import sys

import requests

BASE, PICTURE = sys.argv[1:]

with open(PICTURE, "rb") as image:  # noqa: PTH123 - as people write it
    response = requests.post(
        f"{BASE}/api/v1/chat", files={"image": image}, data={"query": "How many bottles are there?"}, timeout=60
    )
print(response.json()["answer"])

files = {"image": ("shelf.png", open(PICTURE, "rb"), "image/png")}  # noqa: PTH123, SIM115
response = requests.post(f"{BASE}/api/v1/analyze", files=files, data={"query": "有多少个瓶子？"}, timeout=60)
if response.status_code == 200:
    print(response.json()["text"])
else:
    print("failed:", response.status_code, response.text)
files["image"][1].close()
