"""Hostile PDF files, photos and videos: they break their decoder at most, which is a process of its own."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.paths import EXAMPLES
from tests.runtime.media.pdf_files import PAGE, pdf
from tests.runtime.server.error_checks import memory_growth_below, still_answers
from tests.runtime.server.http_client import Reply, chat_request, post
from tests.runtime.server.running_server import Server
from tests.runtime.server.test_documents import file_part
from tests.runtime.server.test_faults_media import zeros
from tests.runtime.server.test_videos import CLIP
from vlrun.server.isolated_media import kind_of

pytestmark = pytest.mark.slow
CODES = {"invalid_image", "unsupported_image", "missing_extra", "unsupported_video"}
CHANGES = 2
"""Files that are changed at random, of each kind: each takes a process."""


def bomb(side: int) -> bytes:
    """A PDF whose only page shows an image of ``side`` x ``side`` pixels, a thousandth of its size."""
    packed = zeros(side * side)
    image = b"/Type/XObject/Subtype/Image/ColorSpace/DeviceGray/BitsPerComponent 8/Filter/FlateDecode"
    head = b"<<%s/Width %d/Height %d/Length %d>>stream\n" % (image, side, side, len(packed))
    whole = pdf([b"200 0 0 300 0 0 cm /I Do"])
    number = whole.count(b" 0 obj") + 1
    whole = whole.replace(b"/Resources<<>>", b"/Resources<</XObject<</I %d 0 R>>>>" % number)
    body, trailer = whole.split(b"\nxref\n")
    return body + b"\n%d 0 obj%s%s\nendstream endobj\nxref\n%s" % (number, head, packed, trailer)


def nested(depth: int) -> bytes:
    """A PDF whose page is ``depth`` page trees deep."""
    kids = b"".join(b"%d 0 obj<</Type/Pages/Count 1/Kids[%d 0 R]>>endobj\n" % (n, n + 1) for n in range(3, depth))
    last = b"%d 0 obj<</Type/Page/MediaBox[0 0 9 9]>>endobj\n" % depth
    head = b"%PDF-1.7\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Count 1/Kids[3 0 R]>>endobj\n"
    return head + kids + last + b"trailer<</Root 1 0 R>>\n%%EOF"


HOSTILE: dict[str, Callable[[], bytes]] = {
    "an image of 1.6 gigapixels": lambda: bomb(40_000),
    "a page tree that contains itself": lambda: pdf([PAGE]).replace(b"/Kids[3 0 R]", b"/Kids[2 0 R]"),
    "a deep page tree": lambda: nested(50_000),
    "a page that draws itself": lambda: pdf([b"/P Do"]).replace(b"<<>>", b"<</XObject<</P 3 0 R>>>>"),
    "graphics states without end": lambda: pdf([b"q " * 500_000]),
}


def assert_no_fault(reply: Reply) -> None:
    assert reply.status in (200, 400), reply.body
    assert reply.status == 200 or reply.json["error"]["code"] in CODES, reply.body


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pdf_takes_no_memory_of_the_service(server: Server, name: str) -> None:
    pytest.importorskip("pypdfium2", reason="the extra pdf is not installed")
    content = HOSTILE[name]()
    with still_answers(server), memory_growth_below(server, 100):
        assert_no_fault(post(server, chat_request(file_part(content, detail="low"), "?", max_tokens=2)))


FILES = {
    "photo": (EXAMPLES / "shelf.heic").read_bytes(),
    "document": (EXAMPLES / "shelves.pdf").read_bytes(),
    "video": CLIP,
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_were_changed_at_random_are_answered_or_refused(server: Server, name: str) -> None:
    whole = FILES[name]
    chance = random.Random(7)
    with still_answers(server):
        for _ in range(CHANGES):
            changed = bytearray(whole)
            for _ in range(chance.choice((1, 20, 400))):
                changed[chance.randrange(32, len(changed))] = chance.randrange(256)
            assert kind_of(bytes(changed)) == name
            reply = post(server, chat_request(file_part(bytes(changed), detail="low"), "?", max_tokens=2))
            assert reply.status == 200 or (reply.status, reply.json["error"]["code"] in CODES) == (400, True), (
                reply.body
            )
