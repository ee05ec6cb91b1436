"""Real clients: two major versions of OpenAI's, curl, and scripts from tutorials. `tests/clients` has many more."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from tests.clients.environments import python_environment
from tests.paths import EXAMPLES
from tests.runtime.server.http_client import (
    Connection,
    data_url,
    get,
    is_idle,
    long_request,
    metric,
    send_request,
    shelf_request,
    wait_until,
)
from tests.runtime.server.running_server import Server, serving

SCRIPT = Path(__file__).with_name("openai_client.py")
TUTORIALS = Path(__file__).with_name("tutorials")


def run(*arguments: str | Path, given: str | None = None) -> str:
    """Run a program and return its output. Fails if it fails."""
    done = subprocess.run(
        arguments,
        input=given,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
def test_openai_client(server: Server) -> None:
    assert re.match(r"openai 3\.", run(sys.executable, SCRIPT, server.url, EXAMPLES))


@pytest.mark.slow
def test_openai_client_of_the_previous_major_version(server: Server) -> None:
    python = python_environment("openai-2", ["openai==2.*"]) / "python"
    assert re.match(r"openai 2\.", run(python, SCRIPT, server.url, EXAMPLES))


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    """A service with one slot and no queue."""
    with serving("--parallel", "1", "--queue", "0") as running:
        yield running


@pytest.fixture
def client(small: Server) -> Iterator[OpenAI]:
    """OpenAI's client with its defaults: two retries."""
    with OpenAI(base_url=f"{small.url}/v1", api_key="none", timeout=60) as made:
        yield made


def statuses(server: Server, before: int) -> list[str]:
    """Statuses of the chat requests after ``before`` log lines, in the order of their ends."""
    lines = [line for line in server.log[before:] if " path=/v1/chat/completions " in line]
    return [match[1] for line in lines if (match := re.search(r" status=(\S+) ", line))]


@pytest.mark.fault(29)
def test_openai_client_retries_after_429(small: Server, client: OpenAI) -> None:
    """It obeys `Retry-After` and `x-should-retry`, and gets its answer."""
    before = len(small.log)
    busy: Connection = send_request(small, long_request(n=8))
    wait_until(lambda: metric(small, "vlrun_engine_running") == 1)
    threading.Timer(1.0, busy.disconnect).start()
    answer = client.chat.completions.create(**shelf_request())
    assert answer.choices[0].message.content == "6"
    wait_until(lambda: len(statuses(small, before)) >= 3)
    received = statuses(small, before)
    assert received[0] == "429"
    assert received[-1] == "200"
    wait_until(lambda: is_idle(small))


def test_openai_client_raises_rate_limit_error(small: Server, client: OpenAI) -> None:
    busy: Connection = send_request(small, long_request(n=8))
    wait_until(lambda: metric(small, "vlrun_engine_running") == 1)
    with pytest.raises(openai.RateLimitError) as caught:
        client.with_options(max_retries=0).chat.completions.create(**shelf_request())
    assert caught.value.code == "busy"
    assert "too many requests are waiting" in str(caught.value)
    busy.disconnect()
    wait_until(lambda: is_idle(small))


@pytest.mark.parametrize(("given", "kind"), [({"temperature": 9}, "400"), ({"model": "gpt-5"}, "404")])
def test_openai_client_does_not_retry_invalid_requests(
    small: Server, client: OpenAI, given: dict[str, object], kind: str
) -> None:
    before = len(small.log)
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{**shelf_request(), **given})
    assert str(caught.value.status_code) == kind
    get(small, "/health/live")
    wait_until(lambda: any("/health/live" in line for line in small.log[before:]))
    assert statuses(small, before) == [kind]


curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


@curl
def test_curl_reads_a_stream(server: Server) -> None:
    """`curl -N` with the body from a pipe."""
    body = json.dumps(shelf_request(stream=True))
    url, kind = f"{server.url}/v1/chat/completions", "Content-Type: application/json"
    lines = run("curl", "-sSN", "--fail-with-body", url, "-H", kind, "-d", "@-", given=body).splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    assert "".join(json.loads(line)["choices"][0]["delta"].get("content", "") for line in data[:-1]) == "6"


@curl
def test_curl_sends_a_large_image(server: Server, tmp_path: Path) -> None:
    """Curl sends `Expect: 100-continue` for bodies over a megabyte."""
    content = EXAMPLES.joinpath("shelf.png").read_bytes()
    large = content[:-12] + b"\x00\x1e\x84\x80teXt" + bytes(2_000_000) + b"\x00\x00\x00\x00" + content[-12:]
    request = shelf_request()
    request["messages"][0]["content"][0]["image_url"]["url"] = data_url(large)
    (tmp_path / "body.json").write_text(json.dumps(request))
    url, kind = f"{server.url}/v1/chat/completions", "Content-Type: application/json"
    done = subprocess.run(
        ["curl", "-sSv", url, "-H", kind, "-d", f"@{tmp_path / 'body.json'}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Expect: 100-continue" in done.stderr
    assert (
        json.loads(done.stdout)["error"]["code"] == "invalid_image"
    )  # the wrong checksum shows that it was read completely


@curl
def test_curl_sends_a_form(server: Server) -> None:
    """`curl -F`; with `--fail` an error is an exit code."""
    image = f"image=@{EXAMPLES / 'shelf.png'}"
    url = f"{server.url}/api/v1/analyze"
    assert json.loads(run("curl", "-sS", url, "-F", image, "-F", "query=How many bottles are there?"))["text"] == "6"
    refused = subprocess.run(
        ["curl", "-sS", "--fail", url, "-F", "query=x"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 22
    assert "400" in refused.stderr


@pytest.fixture(scope="module")
def named() -> Iterator[Server]:
    """A service with the model name that tutorials use."""
    with serving("--name", "vlrun-tiny", "--name", "qwen3-vl-2b") as running:
        yield running


EXPECTED_OUTPUT = {
    "form": "6\n.*6.*\n",
    "payload": r"6\ntokens: \d+ 2\n",
    "vote": r'\{.*"bottle": 6.*\}\n\{.*"bottle": "[3-5]/5".*\}\n',
    "lines": "6\n1\n",
}
"""Output of each script, as a regular expression."""


@pytest.mark.parametrize("name", EXPECTED_OUTPUT)
def test_tutorial_scripts_run_unchanged(named: Server, name: str) -> None:
    output = run(sys.executable, TUTORIALS / f"{name}.py", named.url, EXAMPLES / "shelf.png")
    assert re.fullmatch(EXPECTED_OUTPUT[name], output), output


def test_every_tutorial_script_is_tested() -> None:
    assert {path.stem for path in TUTORIALS.glob("*.py")} == set(EXPECTED_OUTPUT)
