"""LiteLLM's proxy between OpenAI's client and the service."""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from tempfile import mkdtemp

import chat_completions
import checks
from openai import OpenAI

FOLDER = Path(mkdtemp())
CONFIGURATION = {
    "model_list": [
        {
            "model_name": "shelf",
            "litellm_params": {"model": f"openai/{checks.MODEL}", "api_base": checks.API, "api_key": checks.KEY},
            "model_info": {"supports_vision": True},
        }
    ]
}
START_SECONDS = 240
PROXY_KEY = "sk-of-the-proxy"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, proxy: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and proxy.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=10).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    raise SystemExit("the proxy does not start: " + (FOLDER / "log").read_text()[-4000:])


port = free_port()
address = f"http://127.0.0.1:{port}"
(FOLDER / "config.yaml").write_text(json.dumps(CONFIGURATION))
with (FOLDER / "log").open("wb") as log:
    program = Path(sys.executable).with_name("litellm")
    command = [program, "--config", FOLDER / "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    own = os.environ | {"LITELLM_MASTER_KEY": PROXY_KEY}
    proxy = subprocess.Popen(
        command, env=own, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=FOLDER
    )
try:
    wait_for(f"{address}/health/liveliness", proxy)
    client = OpenAI(base_url=f"{address}/v1", api_key=PROXY_KEY)
    chat = functools.partial(client.chat.completions.create, model="shelf")
    checks.run("litellm", **chat_completions.all_checks(chat))
finally:
    proxy.terminate()
    proxy.wait(60)
