"""A process that was forked after a model was loaded: an error at once, where it waited for ever."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import pytest

import vlrun
from vlrun.errors import EngineClosed
from vlrun.media.image import DECODING, open_image

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # from Python 3.12 on

SECONDS = 60
IMAGE = np.zeros((64, 64, 3), np.uint8)
OPTIONS = vlrun.Options(max_tokens=40)


@pytest.fixture(scope="module")
def vlm() -> Iterator[vlrun.VLM]:
    with vlrun.load() as model:
        yield model


def in_child(work: Callable[[], object]) -> str:
    """Run ``work`` in a forked process; return the class of its error, or its result as text."""
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)

    def run() -> None:
        try:
            writer.send(str(work()))
        except BaseException as error:  # noqa: BLE001 - reported to the parent
            writer.send(type(error).__name__)

    process = context.Process(target=run)
    process.start()
    try:
        assert reader.poll(SECONDS), "the child hangs"
        return str(reader.recv())
    finally:
        process.kill()
        process.join()


USES: dict[str, Callable[[vlrun.VLM], object]] = {
    "ask": lambda vlm: vlm.ask(IMAGE, options=OPTIONS),
    "text": lambda vlm: vlm.ask([], "Hi", OPTIONS),
    "schema": lambda vlm: vlm.ask(IMAGE, options=vlrun.Options(schema={"type": "integer"})),
    "chat": lambda vlm: list(vlm.chat([vlrun.Turn("user", ("Hi",))], OPTIONS)),
    "conversation": lambda vlm: vlrun.Conversation(vlm).ask("Hi", IMAGE),
    "run_task": lambda vlm: vlrun.run_task(vlm, IMAGE, vlrun.TaskRequest("Hi", votes=2)),
    "score": lambda vlm: vlm.score([], "Hi", "6"),
    "build_prompt": lambda vlm: vlm.build_prompt([vlrun.Turn("user", ("Hi",))]),
    "wait": lambda vlm: vlm.wait(),
    "state": lambda vlm: vlm.state(),
    "context": lambda vlm: vlm.context,
}


@pytest.mark.slow
@pytest.mark.fault(51)
@pytest.mark.parametrize("use", USES)
def test_a_forked_model_says_so(vlm: vlrun.VLM, use: str) -> None:
    assert in_child(lambda: USES[use](vlm)) == "EngineClosed"


@pytest.mark.slow
@pytest.mark.fault(51)
def test_a_forked_process_can_end_and_close(vlm: vlrun.VLM) -> None:
    """Also while an answer is being read, and with a model that still loads. Destroying a model hung."""
    stream = vlm.stream(IMAGE, "Go on.", OPTIONS)
    next(stream)

    def close_all() -> None:
        with suppress(EngineClosed):
            next(stream)
            raise AssertionError("the child got a token")
        stream.close()
        vlm.close()
        others[0].close()
        others.clear()
        gc.collect()

    others = [vlrun.load(wait=False)]
    assert in_child(close_all) == "None"
    others[0].close()
    assert [chunk.answer for chunk in stream][-1] is not None
    assert vlm.ask([], "Hi", OPTIONS).text


def test_a_forked_process_can_open_images() -> None:
    """The pixels that a thread of the parent held were held for ever."""
    with DECODING.hold(10**12):
        assert in_child(lambda: open_image(IMAGE_BYTES).size) == "(64, 64)"
        pid = os.fork()
        if pid == 0:
            os._exit(DECODING.held)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def png() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(IMAGE).save(buffer, "PNG")
    return buffer.getvalue()


IMAGE_BYTES = png()
