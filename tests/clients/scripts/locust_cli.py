"""Locust on the command line: users that ask about all pictures at once, without its web interface."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import checks

USERS = 4


@functools.cache
def report() -> dict[str, Any]:
    """The numbers of requests and failures by name."""
    program = Path(sys.executable).with_name("locust")
    command = [program, "--locustfile", Path(__file__).with_name("locustfile.py"), "--host", checks.BASE_URL]
    options = ["--headless", "--users", str(USERS), "--spawn-rate", str(USERS), "--run-time", "10m", "--json"]
    own = {"EXAMPLES": str(checks.SHELF.parent), "USERS": str(USERS)}
    done = subprocess.run([*command, *options], env=os.environ | own, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(done.stdout[-3000:] + done.stderr[-3000:])
    return {entry["name"]: entry for entry in json.loads(done.stdout)}


def check(name: str) -> None:
    entry = report()[name]
    checks.is_true(entry["num_requests"])
    checks.equal(entry["num_failures"], 0)


checks.run("locust", **{name: functools.partial(check, name) for name in ("text", "picture", "stream")})
