"""The process that decodes one file: what it returns, and how it ends."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import features

from tests.paths import EXAMPLES, ROOT
from tests.runtime.media.pdf_files import PAGE, pdf
from vlrun.engine.request import Cancellation
from vlrun.errors import AnswerCancelled, DamagedMedia, MediaTooLarge, MissingExtra, UnsupportedMedia
from vlrun.media.image import open_image
from vlrun.server import decoder_process
from vlrun.server.decoder import Comparing, Drawing, Kind, Opening, Sampling
from vlrun.server.decoder_process import DecoderProcess, decoding

pytestmark = pytest.mark.slow

ENCRYPTED = "/Encrypt<</Filter/Standard/V 1/R 2/O<{0}>/U<{0}>/P -4>>/ID[<00><00>]".format("41" * 32)


def opening(encoded: bytes, kind: Kind = "document") -> Opening:
    return Opening(kind, len(encoded), max_pixels=1_000_000, max_pages=5, max_seconds=60, max_frames=900)


@pytest.fixture(autouse=True)
def runtime_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the package is not installed."""
    paths = os.pathsep.join([str(ROOT / "runtime"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setitem(decoder_process.ENVIRONMENT, "PYTHONPATH", paths)


@contextmanager
def opened(encoded: bytes, kind: Kind = "document") -> Iterator[DecoderProcess]:
    with decoding(opening(encoded, kind), encoded, Cancellation()) as process:
        yield process


def test_a_photo_is_decoded_as_on_the_command_line() -> None:
    pytest.importorskip("pi_heif", reason="the extra heic is not installed")
    encoded = (EXAMPLES / "shelf.heic").read_bytes()
    with opened(encoded, "photo") as process:
        rgb = process.pixels(process.reply())
    assert np.array_equal(rgb, open_image(encoded).rgb)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_an_avif_photo_needs_no_extra() -> None:
    file = io.BytesIO()
    PILImage.new("RGB", (48, 32), "red").save(file, "AVIF")
    with opened(file.getvalue(), "photo") as process:
        assert process.pixels(process.reply()).shape == (32, 48, 3)


def test_pages_are_drawn_as_asked() -> None:
    pytest.importorskip("pypdfium2", reason="the extra pdf is not installed")
    with opened(pdf([PAGE, b""])) as process:
        assert process.reply().sizes == ((555, 833), (555, 833))
        process.ask(Drawing(2, 40, 60))
        second = process.pixels(process.reply())
        process.ask(Drawing(1, 20, 30))
        first = process.pixels(process.reply())
    assert (second == 255).all()
    assert second.shape == (60, 40, 3)
    assert first.shape == (30, 20, 3)
    assert first[-1, 0].tolist() == [255, 0, 0]


def test_frames_are_decoded_as_on_the_command_line() -> None:
    pytest.importorskip("av", reason="the extra video is not installed")
    from tests.video_clips import number_of, video

    with opened(video(30), "video") as process:
        found = process.reply()
        assert (found.sizes, found.frames, found.fps) == (((96, 64),), 30, 10.0)
        process.ask(Sampling((3, 17), 192, 128))
        for number in (3, 17):
            reply = process.reply()
            rgb = process.pixels(reply)
            assert (rgb.shape, number_of(rgb), reply.times) == ((128, 192, 3), number, (number / 10,))
        process.ask(Comparing(tuple(range(30)), 4))
        assert 1 <= len(process.reply().times) <= 4


BAD = {
    "encrypted": (pdf(extra=ENCRYPTED), UnsupportedMedia, "the file is encrypted"),
    "damaged": (b"%PDF-1.7\n nothing", DamagedMedia, "the file is damaged or cut short"),
    "empty": (pdf([]), DamagedMedia, "the file has no pages"),
    "too many pages": (pdf([b""] * 6), MediaTooLarge, "the file has 6 pages; the limit is 5"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_used_is_an_error_of_its_own(name: str) -> None:
    pytest.importorskip("pypdfium2", reason="the extra pdf is not installed")
    encoded, kind, message = BAD[name]
    with opened(encoded) as process, pytest.raises(kind, match=message):
        process.reply()


MISSING = [("pypdfium2", "document", "pdf"), ("pi_heif", "photo", "heic"), ("av", "video", "video")]
FILES = {"document": pdf(), "photo": (EXAMPLES / "shelf.heic").read_bytes(), "video": b"\x1aE\xdf\xa3"}


@pytest.mark.parametrize(("package", "kind", "extra"), MISSING)
def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, kind: Kind, extra: str
) -> None:
    (tmp_path / f"{package}.py").write_text("raise ImportError\n")
    present = decoder_process.ENVIRONMENT["PYTHONPATH"]
    monkeypatch.setitem(decoder_process.ENVIRONMENT, "PYTHONPATH", f"{tmp_path}{os.pathsep}{present}")
    with opened(FILES[kind], kind) as process, pytest.raises(MissingExtra) as caught:
        process.reply()
    assert caught.value.extra == extra
    assert caught.value.message.endswith(f"run pip install 'vlrun[{extra}]'")


ENDS = {
    "a crash": ("import os; os.abort()", DamagedMedia, "cannot be decoded"),
    "endless work": ("import os; os.kill(os.getpid(), 24)", MediaTooLarge, "takes more than 30 s"),
    "nonsense": ("print('nonsense')", DamagedMedia, "cannot be decoded"),
    "nothing": ("", DamagedMedia, "cannot be decoded"),
    "a line without end": ("print('x' * 2**22)", DamagedMedia, "cannot be decoded"),
    "too many pixels": ("""print('{"shape": [99999, 99999]}')""", DamagedMedia, "cannot be decoded"),
    "no pixels": ("""print('{"shape": [0, -9]}')""", DamagedMedia, "cannot be decoded"),
    "too few pixels": ("""print('{"shape": [9, 9]}')""", DamagedMedia, "cannot be decoded"),
    "an unknown error": ("""print('{"error": "SystemExit", "message": "no"}')""", DamagedMedia, "no"),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_happens_to_the_process_is_an_error_about_the_file(name: str) -> None:
    """A hostile file that has taken it over can say what it likes, too."""
    code, kind, message = ENDS[name]
    process = DecoderProcess(opening(b"x"), b"x", Cancellation(), (sys.executable, "-c", code))
    with pytest.raises(kind, match=message):
        process.pixels(process.reply())
    process.close()


def test_cancelling_ends_the_process() -> None:
    cancellation = Cancellation()
    command = (sys.executable, "-c", "import time; time.sleep(600)")
    process = DecoderProcess(opening(b"x"), b"x", cancellation, command)
    threading.Timer(0.1, cancellation.cancel).start()
    with pytest.raises(AnswerCancelled):
        process.reply()
    process.close()


def test_processes_wait_for_each_other() -> None:
    """Each may take 1.5 GiB. Who has left does not wait."""
    waiting = Cancellation()
    encoded = b"%PDF-1.7\n"
    with opened(encoded), opened(encoded):
        threading.Timer(0.1, waiting.cancel).start()
        with pytest.raises(AnswerCancelled), decoding(opening(encoded), encoded, waiting):
            pass


LIMITED = """
import sys
from vlrun.server import decoder
decoder.limit_resources(30)
try:
    bytearray(2**31)
except MemoryError:
    print("memory")
try:
    open(sys.argv[1], "w").write("x" * 9999)
except OSError:
    print("files")
import resource
print(resource.getrlimit(resource.RLIMIT_CPU)[0], open("/proc/self/oom_score_adj").read().strip())
"""


def test_the_process_is_limited(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "file")]
    environment = os.environ | decoder_process.ENVIRONMENT
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["memory", "files", "30", "1000"]
