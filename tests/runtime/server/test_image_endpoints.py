"""``/v1/images`` over real sockets: an image is sent once and named in requests of every API."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import os
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from PIL import Image

from tests.paths import EXAMPLES
from tests.runtime.server.error_checks import assert_error, memory_growth_below, still_answers
from tests.runtime.server.http_client import (
    QUESTION,
    Reply,
    chat_request,
    connect,
    data_url,
    get,
    is_idle,
    long_request,
    metric,
    post,
    send_request,
    wait_until,
)
from tests.runtime.server.running_server import ALICE, BOB, Server
from vlrun.server.image_endpoints import ImageEndpoints
from vlrun.server.image_store import ImageStore, StoredImage
from vlrun.server.limits import ServerLimits

if TYPE_CHECKING:
    from vlrun.server.request_handler import RequestHandler

pytestmark = pytest.mark.slow

SHELF = (EXAMPLES / "shelf.png").read_bytes()
SHELF_ID = f"img_{hashlib.sha256(SHELF).hexdigest()}"
PARAM = "messages[0].content[0].image_url.url"
GONE = f"img_{'0' * 64}"


def form(content: bytes, name: str = "image", filename: str | None = "x.png") -> tuple[bytes, dict[str, str]]:
    """A form with one file or text, and its headers."""
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + content + b"\r\n--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


def upload(server: Server, content: bytes = SHELF, headers: Mapping[str, str] | None = None) -> Reply:
    body, kind = form(content)
    return post(server, body, "/v1/images", {**kind, **(headers or {})})


def delete(server: Server, path: str, headers: Mapping[str, str] | None = None) -> Reply:
    connection = connect(server)
    connection.request("DELETE", path, headers=dict(headers or {}))
    return Reply(connection.getresponse())


def random_image(width: int = 16, height: int = 16, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), os.urandom(3 * width * height)).save(file, kind)
    return file.getvalue()


def named(image_id: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"vlrun:{image_id}"}}


def test_an_image_is_kept_described_and_deleted(server: Server) -> None:
    reply = upload(server)
    assert reply.status == 200
    found = reply.json
    assert found | {"expires_at": 0} == {
        "id": SHELF_ID,
        "object": "image",
        "url": f"vlrun:{SHELF_ID}",
        "bytes": len(SHELF),
        "width": 640,
        "height": 640,
        "expires_at": 0,
    }
    assert 1700 < found["expires_at"] - time.time() < 1801
    assert post(server, {"image": data_url(SHELF)}, "/v1/images").json["id"] == SHELF_ID
    assert get(server, f"/v1/images/{SHELF_ID}").json["id"] == SHELF_ID
    assert metric(server, "vlrun_stored_image_bytes") > len(SHELF)
    gone = delete(server, f"/v1/images/{SHELF_ID}")
    assert (gone.status, gone.json) == (200, {"id": SHELF_ID, "object": "image", "deleted": True})
    for path in (f"/v1/images/{SHELF_ID}", f"/v1/images/{SHELF_ID}/preview"):
        assert "send it again" in assert_error(get(server, path), 404, "image_not_found")
    assert_error(delete(server, f"/v1/images/{SHELF_ID}"), 404, "image_not_found")


def test_width_and_height_are_those_of_the_upright_image(server: Server) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(file, "JPEG", exif=exif)
    found = upload(server, file.getvalue()).json
    assert (found["width"], found["height"]) == (20, 40)
    preview = get(server, f"/v1/images/{found['id']}/preview")
    assert Image.open(io.BytesIO(preview.body)).size == (20, 40)


ANSWERS = {
    "/v1/chat/completions": lambda url: chat_request({"type": "image_url", "image_url": {"url": url}}, QUESTION),
    "/v1/responses": lambda url: {
        "input": [
            {
                "role": "user",
                "content": [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": "?"}],
            }
        ],
        "temperature": 0,
    },
    "/v1/messages": lambda url: {
        "model": "vlrun-tiny",
        "max_tokens": 20,
        "temperature": 0,
        "messages": [
            {
                "role": "user",
                "content": [{"type": "image", "source": {"type": "url", "url": url}}, {"type": "text", "text": "?"}],
            }
        ],
    },
    "/v1/tokenize": lambda url: {"messages": chat_request({"type": "image_url", "image_url": url}, "?")["messages"]},
    "/v1/messages/count_tokens": lambda url: {
        "model": "vlrun-tiny",
        "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": url}}]}],
    },
}
CONTENT = ("choices", "output", "content", "count", "input_tokens", "image_tokens")


@pytest.mark.parametrize("path", ANSWERS)
def test_an_image_is_named_wherever_a_data_url_is_accepted(server: Server, path: str) -> None:
    upload(server)
    for_id, for_data = (post(server, ANSWERS[path](url), path) for url in (f"vlrun:{SHELF_ID}", data_url(SHELF)))
    assert for_id.status == for_data.status == 200, for_id.body
    texts = [json.dumps([reply.json.get(name) for name in CONTENT]) for reply in (for_id, for_data)]
    if path in ("/v1/chat/completions", "/v1/messages", "/v1/tokenize", "/v1/messages/count_tokens"):
        assert texts[0] == texts[1]
    missing = post(server, ANSWERS[path](f"vlrun:{GONE}"), path)
    assert missing.status == 404
    assert "send it again" in missing.json["error"]["message"]


def test_the_error_of_a_missing_image_names_its_field(server: Server) -> None:
    upload(server)
    request = chat_request(named(SHELF_ID), named(GONE), QUESTION)
    param = "messages[0].content[1].image_url.url"
    assert_error(post(server, request), 404, "image_not_found", param)
    assert_error(post(server, request | {"stream": True}), 404, "image_not_found", param)
    for image_id in ("img_", f"{SHELF_ID}x", "img_../../etc"):
        assert_error(post(server, chat_request(named(image_id))), 404, "image_not_found", PARAM)
    for url in ("vlrun:", f"vlrun:{SHELF_ID[4:]}", f"vlrun://{SHELF_ID}", f"VLRUN:{SHELF_ID}"):
        request = chat_request({"type": "image_url", "image_url": {"url": url}})
        assert_error(post(server, request), 400, "url_not_allowed", PARAM)
    ollama = {"model": "vlrun-tiny", "prompt": "?", "images": [f"vlrun:{SHELF_ID}"], "stream": False}
    assert post(server, ollama, "/api/generate").status == 400
    assert_error(post(server, {"image": f"vlrun:{SHELF_ID}"}, "/v1/images"), 400, "url_not_allowed", "image")


def test_several_questions_about_one_image(server: Server) -> None:
    upload(server)
    for _ in range(3):
        assert post(server, chat_request(named(SHELF_ID), QUESTION)).text == "6"
    assert post(server, chat_request(named(SHELF_ID), named(SHELF_ID), QUESTION)).status == 200


BROKEN = {
    "empty": (b"", "invalid_image"),
    "no image": (b"<svg onload=alert(1)>", "unsupported_image"),
    "a PDF": (b"%PDF-1.7\n", "invalid_image"),
    "cut short": (SHELF[: len(SHELF) // 2], "invalid_image"),
    "a bomb": (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08\2\0\0\0\x18\xed\xa3f",
        "invalid_image",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_upload_is_checked_as_an_image_of_a_request(server: Server, name: str) -> None:
    content, code = BROKEN[name]
    before = metric(server, "vlrun_stored_image_bytes")
    with still_answers(server):
        assert_error(upload(server, content), 400, code, "image")
        assert_error(post(server, {"image": data_url(content)}, "/v1/images"), 400, code, "image")
    assert metric(server, "vlrun_stored_image_bytes") == before


def test_odd_uploads_are_refused(server: Server) -> None:
    for body, headers, code, param in (
        (*form(SHELF, "file"), "unknown_parameter", "file"),
        (*form(SHELF, filename=None)[:1], form(b"")[1], "invalid_form", None),
        (*form(b"text", filename=None), "invalid_type", "image"),
        (*form(b"1", "detail", None), "unknown_parameter", "detail"),
        (b"--b--\r\n", form(b"")[1], "missing_required_parameter", "image"),
    ):
        assert_error(post(server, body, "/v1/images", headers), 400, code, param)
    assert_error(post(server, {}, "/v1/images"), 400, "missing_required_parameter", "image")
    assert_error(post(server, {"image": 1}, "/v1/images"), 400, "invalid_type", "image")
    assert_error(post(server, {"image": data_url(SHELF), "x": 1}, "/v1/images"), 400, "unknown_parameter", "x")
    assert_error(post(server, {"image": "https://x.example/a.png"}, "/v1/images"), 400, "url_not_allowed", "image")
    assert_error(post(server, b"[" * 99, "/v1/images"), 400, "invalid_json")
    assert_error(get(server, "/v1/images"), 405, "method_not_allowed")


def test_a_preview_shows_a_region_and_the_enhanced_image(server: Server) -> None:
    file = io.BytesIO()
    dark = (
        Image.open(EXAMPLES / "shelf.png")
        .convert("RGB")
        .resize((3000, 600))
        .point([value // 4 for value in range(256)] * 3)
    )
    dark.save(file, "JPEG")
    path = f"/v1/images/{upload(server, file.getvalue()).json['id']}/preview"

    def shown(query: str = "") -> Image.Image:
        reply = get(server, path + query)
        assert (reply.status, reply.headers["content-type"], reply.headers["cache-control"]) == (
            200,
            "image/jpeg",
            "no-store",
        )
        return Image.open(io.BytesIO(reply.body)).convert("L")

    assert shown().size == (2048, 410)
    assert shown("?region=0,0,500,1000/1000").size == (1500, 600)
    assert shown("?region=10,20,30,40&enhance=false").size == (30, 40)
    brightness = [np.asarray(each).mean() for each in (shown("?enhance=false"), shown("?enhance=true"))]
    assert brightness[1] > 1.5 * brightness[0]


PREVIEWS = {
    "?enhance=1": ("invalid_value", "enhance"),
    "?region=1,2,3": ("invalid_value", "region"),
    "?region=9999,0,10,10": ("invalid_value", "region"),
    "?region=": ("invalid_value", "region"),
    "?width=9": ("unknown_parameter", "width"),
    "?enhance=true&enhance=true": ("invalid_value", "enhance"),
    "?enhance": ("invalid_value", None),
    "?enhance=true&region=1,1,1,1&page=1&side=99&x=1": ("invalid_value", None),
    "?region=%ff": ("invalid_value", None),
}


@pytest.mark.parametrize("query", PREVIEWS)
def test_odd_previews_are_refused(server: Server, query: str) -> None:
    upload(server)
    code, param = PREVIEWS[query]
    reply = get(server, f"/v1/images/{SHELF_ID}/preview{query}")
    assert (reply.status, reply.json["error"]["code"], reply.json["error"]["param"]) == (400, code, param), reply.body


def test_images_of_another_key_are_not_there(configured_server: Server) -> None:
    alice, bob = ({"Authorization": f"Bearer {key}"} for key in (ALICE, BOB))
    path = f"/v1/images/{upload(configured_server, headers=alice).json['id']}"
    for refused in (
        get(configured_server, path, bob),
        get(configured_server, f"{path}/preview", bob),
        delete(configured_server, path, bob),
    ):
        assert_error(refused, 404, "image_not_found")
    asked = chat_request(named(SHELF_ID), QUESTION)
    assert_error(post(configured_server, asked, headers=bob), 404, "image_not_found", PARAM)
    assert post(configured_server, asked, headers=alice).text == "6"
    assert_error(get(configured_server, path), 401, "invalid_api_key")
    assert_error(upload(configured_server), 401, "invalid_api_key")
    assert delete(configured_server, path, alice).status == 200


def test_a_task_of_the_operator_is_asked_about_a_part_of_a_named_image(configured_server: Server) -> None:
    alice = {"Authorization": f"Bearer {ALICE}"}
    upload(configured_server, headers=alice)
    part = named(SHELF_ID)
    part["image_url"]["region"] = "0,0,500,1000/1000"
    reply = post(configured_server, chat_request(part, vlrun={"task": "shelf"}), headers=alice)
    assert reply.status == 200, reply.body
    assert reply.json["usage"]["prompt_tokens_details"]["image_tokens"] > 0
    refused = post(configured_server, chat_request(named(GONE), vlrun={"task": "shelf"}), headers=alice)
    assert_error(refused, 404, "image_not_found", PARAM)


def test_foreign_pages_cannot_send_or_delete_images(server: Server) -> None:
    """A form needs no preflight, but browsers send Origin with it."""
    upload(server)
    for origin in ("http://evil.example", "null", "https://127.0.0.1"):
        assert_error(upload(server, headers={"Origin": origin}), 403, "origin_not_allowed")
        assert_error(delete(server, f"/v1/images/{SHELF_ID}", {"Origin": origin}), 403, "origin_not_allowed")
    embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert_error(get(server, f"/v1/images/{SHELF_ID}/preview", embedded), 403, "origin_not_allowed")
    assert upload(server, headers={"Origin": server.url}).status == 200
    assert_error(upload(server, headers={"Host": "evil.example"}), 403, "host_not_allowed")


def test_an_unused_image_is_forgotten_without_any_request() -> None:
    """By a timer: nothing of a picture may survive because nobody asks for it."""

    async def unused() -> float:
        store = ImageStore(ServerLimits(stored_image_seconds=0.05))
        endpoints = ImageEndpoints(cast("RequestHandler", SimpleNamespace(images=store, limits=ServerLimits())))
        for number in range(3):
            store.put("", "x", StoredImage.of(bytes(number), (1, 1)))
            endpoints.forget_unused()
            await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            while store.held:
                await asyncio.sleep(0.01)
        return store.held

    assert asyncio.run(unused()) == 0


def test_a_thousand_uploads_leave_no_memory_behind(configured_server: Server) -> None:
    """Each image is another one; the service keeps 1 MiB of them, and the newest are there."""
    alice = {"Authorization": f"Bearer {ALICE}"}
    connection = connect(configured_server)

    def send(count: int) -> str:
        for _ in range(count):
            body, kind = form(random_image(8, 8, "BMP"))
            connection.request("POST", "/v1/images", body, {**kind, **alice})
            reply = connection.getresponse()
            found = json.loads(reply.read())
        return str(found["id"])

    send(100)
    with memory_growth_below(configured_server, 16):
        last = send(900)
    assert get(configured_server, f"/v1/images/{last}", alice).status == 200


def test_an_image_that_a_running_request_uses_may_be_deleted(server: Server) -> None:
    upload(server)
    request = long_request(max_tokens=40)
    request["messages"][0]["content"].insert(0, named(SHELF_ID))
    connection = send_request(server, request | {"stream": True})
    response = connection.getresponse()
    assert response.status == 200
    assert delete(server, f"/v1/images/{SHELF_ID}").status == 200
    assert response.read().rstrip().endswith(b"[DONE]")
    wait_until(lambda: is_idle(server))


def test_a_named_image_counts_as_if_the_request_had_sent_it(server: Server) -> None:
    """Otherwise small requests would hold gigabytes of images that the store has long dropped."""
    upload(server)
    request = long_request(stream=True)
    request["messages"][0]["content"].insert(0, named(SHELF_ID))
    connection = send_request(server, request)
    assert connection.getresponse().read(10)
    assert metric(server, "vlrun_body_bytes") >= len(SHELF)
    connection.disconnect()
    wait_until(lambda: is_idle(server))


def test_the_log_has_no_id(server: Server) -> None:
    """The id is a hash of the picture, which must be forgotten with it."""
    before = len(server.log)
    upload(server)
    get(server, f"/v1/images/{SHELF_ID}")
    get(server, f"/v1/images/{SHELF_ID}/preview")
    post(server, chat_request(named(SHELF_ID), QUESTION))
    delete(server, f"/v1/images/{SHELF_ID}")
    wait_until(lambda: sum("/v1/images/..." in line for line in server.log[before:]) == 3)
    assert not any("img_" in line for line in server.log)


def test_base64_of_either_alphabet_is_read(server: Server) -> None:
    url = "data:image/png;base64," + base64.urlsafe_b64encode(SHELF).decode().rstrip("=")
    assert post(server, {"image": url}, "/v1/images").json["id"] == SHELF_ID
