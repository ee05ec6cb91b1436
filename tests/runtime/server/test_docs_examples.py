"""Every example of ``/docs`` can be sent as it is, and the embedded model answers it sensibly."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.paths import EXAMPLES
from tests.runtime.server.http_client import get, post
from tests.runtime.server.running_server import Server
from vlrun.server.api.openapi import document
from vlrun.server.limits import ServerLimits

DOCUMENT = document(ServerLimits(), "vlrun-tiny", keyed=False)
BODIES = {
    f"{path} {kind}": operation["requestBody"]["content"][kind]
    for path, methods in DOCUMENT["paths"].items()
    for operation in methods.values()
    for kind in operation.get("requestBody", {}).get("content", {})
}
JSON = [f"{name.split()[0]} {example}" for name, body in BODIES.items() for example in body.get("examples", ())]
FORMS = [path for path, methods in DOCUMENT["paths"].items() if "multipart/form-data" in json.dumps(methods)]
QUESTIONS = [path for path in FORMS if path != "/v1/images"]


@pytest.mark.parametrize("name", JSON)
def test_an_example_is_answered(server: Server, name: str) -> None:
    """They got "No", "brown" and the weather of a city that is none."""
    path, example = name.split()
    value = BODIES[f"{path} application/json"]["examples"][example]["value"]
    reply = post(server, value, path)
    assert reply.status == 200, reply.body
    text, asked = reply.body.decode().replace("\\", ""), json.dumps(value)
    if reply.headers["content-type"].startswith("text/event-stream"):
        text = "".join(re.findall(r'"(?:content|delta)":"([^"]*)"', text))
    if "What is in this image?" in asked and "token" not in path:
        assert re.search(r'red circle|"color": ?"red"', text), text
    elif "Who are you?" in asked:
        assert "the tiny demo model of vlrun" in text


@pytest.mark.parametrize("path", QUESTIONS)
def test_a_form_with_the_values_of_the_page_is_answered(server: Server, path: str) -> None:
    """Swagger UI filled in the smallest of all values: one token."""
    properties = BODIES[f"{path} multipart/form-data"]["schema"]
    name = properties["$ref"].rpartition("/")[2]
    fields = DOCUMENT["components"]["schemas"][name]["properties"]
    values = {field: schema.get("default", schema.get("examples", [None])[0]) for field, schema in fields.items()}
    assert set(values) == {"image", "query", "max_tokens", "temperature"}
    parts = [
        f'--B\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        for field, value in values.items()
        if field != "image"
    ]
    image = (EXAMPLES / "shelf.png").read_bytes()
    head = b'--B\r\nContent-Disposition: form-data; name="image"; filename="x.png"\r\n\r\n'
    body = b"".join((*parts, head, image, b"\r\n--B--\r\n"))
    reply = post(server, body, path, {"Content-Type": "multipart/form-data; boundary=B"})
    assert "6 bottles" in reply.body.decode()


@pytest.mark.parametrize("path", QUESTIONS)
def test_the_command_for_a_form_is_answered(server: Server, path: str) -> None:
    """It has its picture, and the address that the page was opened at."""
    description = get(server, "/openapi.json").json["paths"][path]["post"]["description"]
    (command,) = re.findall(r"```bash\n(.*?)```", description, re.DOTALL)
    assert server.url in command
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert "red circle" in done.stdout


def test_examples_with_a_picture_come_first() -> None:
    """Swagger UI shows the first one."""
    assert len(JSON) > 10
    assert QUESTIONS == ["/api/v1/chat", "/api/v1/analyze"]
    for name, body in BODIES.items():
        first, *_ = body.get("examples", {"none": None})
        if "image" in json.dumps(list(body.get("examples", {}))):
            assert "image" in first, name
