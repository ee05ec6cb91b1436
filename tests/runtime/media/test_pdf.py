"""Pages of PDF files as images, within limits of time and memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.media.pdf_files import PAGE, pdf
from vlrun.errors import (
    DamagedMedia,
    MediaError,
    MediaNotFound,
    MediaTooLarge,
    MissingExtra,
    OptionError,
    UnsupportedMedia,
)
from vlrun.media import pdf as pdf_module
from vlrun.media.image import ResizedImage, open_image
from vlrun.media.pdf import MAX_PAGE_PIXELS, PendingPage, page_sizes
from vlrun.media.pending_image import Pdf, open_images, open_pages, read_headers

pytest.importorskip("pypdfium2", reason="the extra pdf is not installed")

ENCRYPTED = "/Encrypt<</Filter/Standard/V 1/R 2/O<{0}>/U<{0}>/P -4>>/ID[<00><00>]".format("41" * 32)


def test_pages_become_images_with_labels() -> None:
    first, second = open_pages(pdf([PAGE, b""]))
    assert (first.label, second.label) == ("Page 1", "Page 2")
    assert first.size == (555, 833)  # 200 pixels an inch
    assert first.rgb[-1, 0].tolist() == [255, 0, 0]
    assert first.rgb[0, 0].tolist() == first.rgb[-1, -1].tolist() == [255, 255, 255]
    assert (second.rgb == 255).all()
    assert first.sha256 != second.sha256
    assert open_pages(pdf([PAGE, b""]), "1")[0].sha256 == first.sha256


def test_a_page_is_drawn_in_the_size_that_the_model_sees() -> None:
    (page,) = read_headers([pdf()])
    assert isinstance(page, PendingPage)
    assert page.size == (555, 833)
    with page.opened((64, 96)) as image:
        assert image.rgb.shape == (96, 64, 3)
        assert isinstance(image, ResizedImage)
        assert image.size == (555, 833)
        assert image.rgb[-2, 1].tolist() == [255, 0, 0]
        assert image.label == "Page 1"


def test_pages_are_chosen(tmp_path: Path) -> None:
    content = pdf([PAGE] * 9)
    path = tmp_path / "a.pdf"
    path.write_bytes(content)
    with path.open("rb") as file:
        for source in (path, str(path), content, file):
            assert [image.label for image in open_pages(source, "2-3,7")] == ["Page 2", "Page 3", "Page 7"]  # type: ignore[arg-type]
    assert [image.label for image in open_images([Pdf(content, "9"), Pdf(path, "1")])] == [
        "Page 9 of the image",
        "Page 1 of a.pdf",
    ]
    assert len(read_headers([content], "2-")) == 8


def test_rotated_pages_and_headers_behind_other_text() -> None:
    (image,) = open_pages(b"\x1b%-12345X@PJL\n" + pdf(page="/Rotate 90"))
    assert image.size == (833, 555)
    assert image.rgb[0, 0].tolist() == [255, 0, 0]


def test_annotations_are_drawn() -> None:
    """People write notes on what they ask about."""
    annotation = "<</Type/Annot/Subtype/Square/Rect[100 100 150 150]/IC[0 0 1]/C[0 0 1]/F 4>>"
    (image,) = open_pages(pdf([b""], page=f"/Annots[{annotation}]"))
    x, y = int(125 * 200 / 72), image.rgb.shape[0] - int(125 * 200 / 72)
    assert image.rgb[y, x].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"%PDF-1.7\n", DamagedMedia, "the image is damaged or cut short"),
        (pdf()[:150], DamagedMedia, "the image is damaged or cut short"),
        (pdf([]), DamagedMedia, "the image has no pages"),
        (pdf(extra=ENCRYPTED), UnsupportedMedia, "the image is encrypted: save it without a password first"),
    ],
    ids=["empty", "cut", "no pages", "encrypted"],
)
def test_a_file_that_cannot_be_used_is_one_sentence(content: bytes, error: type[MediaError], message: str) -> None:
    with pytest.raises(error) as caught:
        open_pages(content)
    assert str(caught.value) == message


def test_pages_that_are_not_there_or_too_many() -> None:
    content = pdf([b""] * 70)
    with pytest.raises(
        OptionError, match="the image has 70 pages; a question can have at most 64: choose some, as 1-3,7"
    ):
        read_headers([content])
    with pytest.raises(OptionError, match="and more than that are chosen"):
        read_headers([content], "1-70")
    with pytest.raises(MediaNotFound, match="has 70 pages, and no page 71"):
        read_headers([content], "1,71")
    with pytest.raises(OptionError, match="at most 64 images and pages"):
        read_headers([Pdf(content, "1-40"), Pdf(content, "1-40")])
    assert len(read_headers([content], "1-3,66-")) == 8


def test_pages_need_a_pdf_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(OptionError, match="pages are for PDF files, and none is given"):
        read_headers([np.zeros((8, 8, 3), np.uint8)], "1")
    with pytest.raises(OptionError, match=r"a\.png' is no PDF file"):
        read_headers([Pdf(str(tmp_path / "a.png"))])
    with pytest.raises(UnsupportedMedia, match="is a PDF file, not an image"):
        open_image(pdf())


HUGE = ["0 0 14400 14400", "0 0 1e9 1e9", "0 0 1e30 1e30", "0 0 2147483648 1", "0 -5e8 3 5e8"]
WITHOUT_SIZE = ["0 0 0 0", "5 5 1 1", "", "0 0 0.001 0.001", "0 0 x y", "0 0 nan inf"]


@pytest.mark.parametrize("box", HUGE + WITHOUT_SIZE)
def test_any_paper_costs_no_more_than_a_page(box: str) -> None:
    """Huge, tiny, without a size: it is drawn within limits, or refused in one sentence."""
    content = pdf(box=box)
    with contextlib.suppress(MediaError):
        (page,) = read_headers([content])
        assert isinstance(page, PendingPage)
        assert 0 < page.pixels <= MAX_PAGE_PIXELS
        with page.opened((64, 64)) as image:
            assert image.rgb.shape == (64, 64, 3)


def test_a_page_that_takes_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_module, "MAX_SECONDS", 0.01)
    slow = pdf([b"0 0 m 200 300 l S 1 0 0 rg 0 0 200 300 re f\n" * 10_000])
    with pytest.raises(MediaTooLarge, match=r"page 1 of the image takes more than 0\.01 s to draw, the limit"):
        open_pages(slow)
    assert len(open_pages(pdf())) == 1


def test_reading_a_page_that_takes_long_does_not_hold_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards Ctrl+C and a limit: PDFium cannot be stopped while it reads a page, which took 82 s."""
    import pypdfium2

    slow, going_on, finished = pdf([b"", b""]), threading.Event(), threading.Event()
    get_page = pypdfium2.PdfDocument.__getitem__

    def read_slowly(document: pypdfium2.PdfDocument, index: int) -> pypdfium2.PdfPage:
        going_on.wait(60)
        finished.set()
        return get_page(document, index)

    with monkeypatch.context() as patch:
        patch.setattr(pypdfium2.PdfDocument, "__getitem__", read_slowly)
        patch.setattr(pdf_module, "MAX_WAIT_SECONDS", 0.2)
        with pytest.raises(MediaTooLarge, match=r"page 1 of the image takes more than 0\.2 s to read, the limit"):
            open_pages(slow)
        interrupting = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            open_pages(pdf())  # waits for its turn
        going_on.set()
        assert finished.wait(10)
    assert len(open_pages(pdf())) == 1


def test_a_process_that_gave_up_a_page_ends_in_order(tmp_path: Path) -> None:
    """Guards a crash at the end of a script: PDFium was freed while a thread used it."""
    content = zlib.compress(b"0 0 1 1 re f " * 2_000_000)
    slow = pdf([b"FILLED"]).replace(
        b"<</Length 6>>stream\nFILLED", b"<</Length %d/Filter/FlateDecode>>stream\n%s" % (len(content), content)
    )
    (tmp_path / "slow.pdf").write_bytes(slow)
    script = f"""
import vlrun.media.pdf as module
from vlrun import open_pages
module.MAX_WAIT_SECONDS = 0.3
try:
    open_pages({str(tmp_path / "slow.pdf")!r})
except vlrun.VlrunError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", f"import vlrun{script}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "slow.pdf' takes more than 0.3 s to read, the limit" in done.stdout


def test_several_threads_take_turns() -> None:
    """PDFium is not thread-safe."""
    content = pdf([PAGE] * 4)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: [image.sha256 for image in open_pages(content)], range(12)))
    assert len({tuple(result) for result in results}) == 1


def test_without_the_extra_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(MissingExtra) as caught:
        open_pages(pdf())
    need = "the image is a PDF file, which needs another package"
    assert str(caught.value) == f"{need}: run pip install 'vlrun[pdf]'"
    assert caught.value.extra == "pdf"


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, len(pdf()) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_files_give_pages_or_one_sentence(changes: list[tuple[int, int]]) -> None:
    content = bytearray(pdf())
    for position, value in changes:
        content[position] = value
    with contextlib.suppress(MediaError):
        for page in read_headers([bytes(content)]):
            assert isinstance(page, PendingPage)
            with page.opened((64, 96)):
                pass


def test_the_sizes_of_all_pages_are_known_without_drawing() -> None:
    assert page_sizes(pdf([b""] * 3), "it", 3) == [(555, 833)] * 3
    with pytest.raises(MediaTooLarge, match="it has 4 pages; the limit is 3"):
        page_sizes(pdf([b""] * 4), "it", 3)
