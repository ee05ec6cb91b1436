"""PDF files and phone photos over real sockets: in every API that takes files, and in ``/v1/images``."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from tests.paths import EXAMPLES
from tests.runtime.media.pdf_files import PAGE, pdf
from tests.runtime.server.error_checks import assert_error, still_answers
from tests.runtime.server.http_client import QUESTION, Reply, chat_request, data_url, get, post
from tests.runtime.server.running_server import Server
from tests.runtime.server.test_image_endpoints import form, upload

pytestmark = pytest.mark.slow
pytest.importorskip("pypdfium2", reason="the extra pdf is not installed")

SHELVES = (EXAMPLES / "shelves.pdf").read_bytes()
"""Two pages: shelf.png with 6 bottles, shelf_two.png with 3."""
HEIC = (EXAMPLES / "shelf.heic").read_bytes()
ENCRYPTED = "/Encrypt<</Filter/Standard/V 1/R 2/O<{0}>/U<{0}>/P -4>>/ID[<00><00>]".format("41" * 32)
FILE = "messages[0].content[0].file.file_data"


def pdf_url(content: bytes) -> str:
    return f"data:application/pdf;base64,{base64.b64encode(content).decode()}"


def file_part(content: bytes | str, **more: Any) -> dict[str, Any]:
    data = content if isinstance(content, str) else pdf_url(content)
    return {"type": "file", "file": {"filename": "shelves.pdf", "file_data": data, **more}}


def asked_about_page_2() -> dict[str, tuple[str, dict[str, Any]]]:
    url = pdf_url(SHELVES)
    input_file = {"type": "input_file", "filename": "a.pdf", "file_data": url, "pages": "2"}
    source = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(SHELVES).decode()}
    document = {"type": "document", "source": source, "title": "a.pdf", "pages": "2", "citations": {"enabled": False}}
    words = {"type": "text", "text": QUESTION}
    content = [input_file, {"type": "input_text", "text": QUESTION}]
    anthropic = {"model": "vlrun-tiny", "max_tokens": 20, "temperature": 0}
    return {
        "OpenAI": ("/v1/chat/completions", chat_request(file_part(SHELVES, pages="2"), QUESTION)),
        "base64 alone": (
            "/v1/chat/completions",
            chat_request(file_part(base64.b64encode(SHELVES).decode(), pages="2"), QUESTION),
        ),
        "Responses": ("/v1/responses", {"input": [{"role": "user", "content": content}], "temperature": 0}),
        "Anthropic": ("/v1/messages", {**anthropic, "messages": [{"role": "user", "content": [document, words]}]}),
    }


def text_of(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    found = reply.json
    if "choices" in found:
        return str(found["choices"][0]["message"]["content"])
    content = found["content"] if "content" in found else found["output"][-1]["content"]
    return str(content[0]["text"])


@pytest.mark.parametrize("name", asked_about_page_2())
def test_a_page_is_asked_about_in_each_api(server: Server, name: str) -> None:
    path, body = asked_about_page_2()[name]
    assert text_of(post(server, body, path)) == "3"


def count(server: Server, *parts: str | dict[str, Any]) -> dict[str, int]:
    reply = post(server, {"messages": chat_request(*parts)["messages"]}, "/v1/tokenize")
    assert reply.status == 200, reply.body
    return dict(reply.json)


def test_each_page_is_an_image_with_its_number_in_the_prompt(server: Server) -> None:
    both, second = count(server, file_part(SHELVES, pages="2,1")), count(server, file_part(SHELVES, pages="2"))
    assert both["image_tokens"] == 2 * second["image_tokens"] > 0
    image = count(server, {"type": "image_url", "image_url": data_url((EXAMPLES / "shelf.png").read_bytes())})
    assert second["text_tokens"] > image["text_tokens"]  # "Page 2: "
    named = count(server, file_part(SHELVES, pages="2"), file_part(pdf(), pages="1"))
    assert named["text_tokens"] > both["text_tokens"]  # "of shelves.pdf"


def test_a_file_is_sent_once_and_its_pages_are_named(server: Server) -> None:
    sent = upload(server, SHELVES).json
    assert len(sent["pages"]) == 2
    assert sent["pages"][0] == {"width": sent["width"], "height": sent["height"]}
    assert get(server, f"/v1/images/{sent['id']}").json == sent
    assert post(server, {"image": pdf_url(SHELVES)}, "/v1/images").json["pages"] == sent["pages"]
    part = {"type": "image_url", "image_url": {"url": f"{sent['url']}#page=1", "region": "0,0,1000,1000/1000"}}
    assert text_of(post(server, chat_request(part, QUESTION))) == "6"
    assert text_of(post(server, chat_request(file_part(sent["url"], pages="2"), QUESTION))) == "3"
    missing = {"type": "image_url", "image_url": {"url": f"{sent['url']}#page=3"}}
    message = assert_error(
        post(server, chat_request(missing)), 400, "invalid_image", "messages[0].content[0].image_url.url"
    )
    assert message == "the file has 2 pages, and no page 3"


def test_previews_show_pages(server: Server) -> None:
    sent = upload(server, pdf([PAGE, b""], box="0 0 300 100")).json
    assert sent["pages"] == [{"width": 833, "height": 277}] * 2
    path = f"/v1/images/{sent['id']}/preview"

    def shown(query: str) -> Image.Image:
        reply = get(server, path + query)
        assert (reply.status, reply.headers["content-type"]) == (200, "image/jpeg"), reply.body
        return Image.open(io.BytesIO(reply.body))

    assert shown("").size == (833, 277)
    small = shown("?page=1&side=100")
    assert small.size == (100, 33)
    red, green, _ = np.asarray(small)[28, 5]
    assert red > 200
    assert green < 100
    assert np.asarray(shown("?page=2&side=100")).min() > 240
    assert shown("?region=0,0,500,1000/1000&page=1&enhance=true").size == (417, 277)
    bad = {"?page=3": "page", "?page=0": "page", "?page=x": "page", "?side=8": "side", "?side=4096": "side"}
    for query, param in bad.items():
        reply = get(server, path + query)
        assert (reply.status, reply.json["error"]["param"]) == (400, param), reply.body
    png = upload(server).json["id"]
    assert_error(get(server, f"/v1/images/{png}/preview?page=1"), 400, "invalid_value", "page")


@pytest.mark.parametrize("path", ["/api/v1/chat", "/api/generate"])
def test_simple_apis_take_a_file_of_one_page(server: Server, path: str) -> None:
    one = pdf([PAGE])
    if path == "/api/generate":
        body: Any = {"model": "vlrun-tiny", "prompt": "?", "images": [base64.b64encode(one).decode()], "stream": False}
        assert post(server, body, path).status == 200
    else:
        body, headers = form(one)
        assert post(server, body, path, headers).status == 200


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "encrypted": (file_part(pdf(extra=ENCRYPTED)), "unsupported_image", "the file is encrypted"),
    "damaged": (file_part(b"%PDF-1.7\n%%EOF"), "invalid_image", "the file is damaged or cut short"),
    "no pages": (file_part(pdf([])), "invalid_image", "the file has no pages"),
    "no such page": (file_part(SHELVES, pages="3"), "invalid_image", "the file has 2 pages, and no page 3"),
    "too many pages": (file_part(pdf([b""] * 17)), "too_many_images", "at most 16: choose some, as 1-3,7"),
    "far too many pages": (
        file_part(pdf([b""] * 2001)),
        "invalid_image",
        "the file has 2,001 pages; the limit is 2,000",
    ),
    "an empty file": (file_part("data:application/pdf;base64,"), "invalid_image", "the image is empty"),
    "broken base64": (file_part("data:application/pdf;base64,!!"), "invalid_image", "base64 is broken"),
    "a URL": (file_part("https://example.org/a.pdf"), "url_not_allowed", "vlrun fetches no URLs"),
    "a path": (file_part("file:///etc/passwd"), "url_not_allowed", "vlrun fetches no URLs"),
    "another type": (
        file_part("data:text/plain;base64,aGk="),
        "unsupported_image",
        "must be that of an image",
    ),
    "no file": (file_part(b"hello"), "unsupported_image", "is not an image that vlrun can read"),
}


def test_a_file_that_cannot_be_used_is_refused_in_one_sentence(server: Server) -> None:
    with still_answers(server):
        for name, (part, code, words) in REFUSED.items():
            message = assert_error(post(server, chat_request(part, QUESTION)), 400, code, FILE)
            assert words in message, name
            assert "\n" not in message


PAGES = {"0": "names no pages", "3-1": "names no pages", "all": "names no pages"}


@pytest.mark.parametrize("pages", PAGES)
def test_pages_that_are_no_numbers_are_refused(server: Server, pages: str) -> None:
    param = "messages[0].content[0].file.pages"
    message = assert_error(post(server, chat_request(file_part(SHELVES, pages=pages))), 400, "invalid_value", param)
    assert PAGES[pages] in message


def test_pages_are_for_pdf_files(server: Server) -> None:
    part = file_part(data_url((EXAMPLES / "shelf.png").read_bytes()), pages="1")
    assert "pages are for PDF files" in assert_error(post(server, chat_request(part)), 400, "invalid_value", FILE)
    sent = upload(server).json
    page = {"type": "image_url", "image_url": {"url": f"{sent['url']}#page=1"}}
    place = "messages[0].content[0].image_url.url"
    assert_error(post(server, chat_request(page)), 400, "invalid_value", place)
    for fragment in ("#page=", "#page=0", "#2", "#page=1,2"):
        page["image_url"] = {"url": f"{sent['url']}{fragment}"}
        assert_error(post(server, chat_request(page)), 400, "invalid_value", place)
    twice = file_part(f"{sent['url']}#page=1", pages="1")
    assert "leave out pages" in assert_error(
        post(server, chat_request(twice)), 400, "invalid_value", "messages[0].content[0].file.pages"
    )


def test_a_file_id_is_refused_by_name(server: Server) -> None:
    part = {"type": "file", "file": {"file_id": "file-123"}}
    assert_error(post(server, chat_request(part)), 400, "unsupported_parameter", "messages[0].content[0].file.file_id")


def test_tiles_need_a_single_page(server: Server) -> None:
    task = {"vlrun": {"task": "count", "items": ["bottle"], "tiles": "1x2"}}
    assert post(server, chat_request(file_part(SHELVES, pages="1"), **task)).status == 200
    assert_error(post(server, chat_request(file_part(SHELVES), **task)), 400, "too_many_images", FILE)


def test_readiness_tells_what_is_read(server: Server) -> None:
    inputs = get(server, "/health/ready").json["inputs"]
    assert {"image/png", "image/avif", "application/pdf"} <= set(inputs)


def photos() -> Iterator[tuple[str, bytes]]:
    yield "heic", HEIC
    if features.check("avif"):
        file = io.BytesIO()
        Image.open(EXAMPLES / "shelf.png").convert("RGB").save(file, "AVIF", quality=90)
        yield "avif", file.getvalue()


@pytest.mark.parametrize("kind", [name for name, _ in photos()])
def test_photos_of_phones_are_read(server: Server, kind: str) -> None:
    if kind == "heic":
        pytest.importorskip("pi_heif", reason="the extra heic is not installed")
    encoded = dict(photos())[kind]
    sent = upload(server, encoded).json
    assert (sent["width"], sent["height"]) == (640, 640)
    assert Image.open(io.BytesIO(get(server, f"/v1/images/{sent['id']}/preview").body)).size == (640, 640)
    part = {"type": "image_url", "image_url": {"url": data_url(encoded, kind)}}
    assert text_of(post(server, chat_request(part, QUESTION))) == "6"


BROKEN_PHOTOS = {
    "cut short": HEIC[: len(HEIC) // 2],
    "without pixels": HEIC[: HEIC.index(b"mdat")],
    "a bomb": HEIC.replace(b"ispe\0\0\0\0\0\0\2\x80\0\0\2\x80", b"ispe\0\0\0\0\0\1\0\0\0\1\0\0"),
    "another size": HEIC.replace(b"ispe\0\0\0\0\0\0\2\x80\0\0\2\x80", b"ispe\0\0\0\0\0\0\1\0\0\0\1\0"),
}


@pytest.mark.parametrize("name", BROKEN_PHOTOS)
def test_broken_photos_are_refused(server: Server, name: str) -> None:
    pytest.importorskip("pi_heif", reason="the extra heic is not installed")
    encoded = BROKEN_PHOTOS[name]
    assert encoded != HEIC
    with still_answers(server):
        reply = upload(server, encoded)
    if name == "another size":  # the decoder decides: any answer but a fault
        assert reply.status in (200, 400)
    else:
        assert (reply.status, reply.json["error"]["param"]) == (400, "image"), reply.body
