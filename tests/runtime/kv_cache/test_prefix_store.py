"""Prefixes on disk: correct answers whatever happens to the files."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.engine.fake_decoder import FakeDecoder
from tests.runtime.engine.requests import (
    ROOT,
    FakeEncoder,
    expected_tokens,
    make_prompt,
    make_request,
    running_engine,
    wait_for,
)
from vlrun import CacheConfig, Options, load
from vlrun.errors import EngineClosed
from vlrun.kv_cache.prefix_store import MAGIC, PrefixStore, StoredPrefix, may_contain
from vlrun.storage.files import write_checked

LIMIT = 2**20
IMAGES = (b"an image", b"another")
IMAGE = make_prompt([1, 2, (b"red", 30), 3, 4], 12)
OTHER = make_prompt([1, 2, (b"red", 30), 5], 9)


def ask(folder: Path, root: bytes = ROOT, limit: int = LIMIT) -> tuple[int, int]:
    """Send both prompts to a new engine; return the cached tokens of the first and the number of encoded images."""
    encoder = FakeEncoder()
    with running_engine(FakeDecoder(100), encoder, store=PrefixStore(folder, root, limit)) as engine:
        stream = engine.submit(make_request(IMAGE))
        assert list(stream) == expected_tokens(IMAGE)
        assert list(engine.submit(make_request(OTHER))) == expected_tokens(OTHER)
    return stream.metrics.cached_tokens, len(encoder.encoded)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_a_new_process_neither_encodes_nor_prefills_a_stored_prefix(tmp_path: Path) -> None:
    assert ask(tmp_path) == (0, 1)
    assert ask(tmp_path) == (32, 0)
    (file,) = files(tmp_path)
    assert file.stat().st_mode & 0o077 == 0, "other users can read the prompt"


@pytest.mark.fault(37)
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "foreign", "swap", "deep"])
def test_a_damaged_file_is_removed_and_never_used(tmp_path: Path, damage: str) -> None:
    """Guards against wrong answers without an error."""
    ask(tmp_path)
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    elif damage == "deep":  # intact, with a header that no parser follows
        header = b"\x91" * 50_000
        write_checked(file, [MAGIC, len(header).to_bytes(8, "little"), header])
        content = bytearray(file.read_bytes())
    elif damage == "swap":  # intact, but another prefix under this name
        other = PrefixStore(tmp_path / "other", ROOT, LIMIT)
        other.put(StoredPrefix((b"x" * 32,), np.zeros((1, 2048), np.uint8), (b"p",)))
        content = bytearray(files(tmp_path / "other")[0].read_bytes())
        files(tmp_path / "other")[0].unlink()
        (tmp_path / "other").rmdir()
    else:
        content = {"truncate": content[:-100], "empty": bytearray(), "foreign": bytearray(b"hello" * 99)}[damage]
    file.write_bytes(content)
    assert ask(tmp_path) == (0, 1)
    assert ask(tmp_path) == (32, 0)


@pytest.mark.fault(37)
def test_models_do_not_use_each_others_files(tmp_path: Path) -> None:
    ask(tmp_path)
    assert ask(tmp_path, b"other model") == (0, 1)
    assert ask(tmp_path) == (32, 0)
    assert len(files(tmp_path)) == 2


def test_a_prefix_is_found_by_its_first_images(tmp_path: Path) -> None:
    """Guards a prompt that adds a new image to a known one. Files of other images are not read."""
    store = PrefixStore(tmp_path, ROOT, LIMIT)
    store.put(StoredPrefix((b"n" * 32,), np.ones((1, 2048), np.uint8), IMAGES[:1]))
    assert store.longest([b"n" * 32, b"m" * 32], 0, IMAGES)
    assert store.longest([b"n" * 32], 0, IMAGES[1:]) is None
    assert may_contain(tmp_path, IMAGES[:1])
    assert not may_contain(tmp_path, IMAGES)


@pytest.mark.fault(37)
def test_the_folder_stays_within_its_limit(tmp_path: Path) -> None:
    """The least recently used file goes first; a prefix larger than the limit is not written."""
    store = PrefixStore(tmp_path, ROOT, 10_000)
    names = [bytes([n]) * 32 for n in range(6)]
    for name in names[:4]:
        store.put(StoredPrefix((name,), np.zeros((1, 2500), np.uint8), IMAGES))
        time.sleep(0.01)
    assert [store.contains(name, IMAGES) for name in names[:4]] == [False, True, True, True]
    assert store.longest([names[1]], 0, IMAGES)
    time.sleep(0.01)
    store.put(StoredPrefix((names[4],), np.zeros((1, 2500), np.uint8), IMAGES))
    assert [store.contains(name, IMAGES) for name in names[1:5]] == [True, False, True, True]
    store.put(StoredPrefix((names[5],), np.zeros((1, 25_000), np.uint8), IMAGES))
    assert not store.contains(names[5], IMAGES)
    assert sum(file.stat().st_size for file in files(tmp_path)) <= 10_000


@pytest.mark.fault(37)
def test_a_full_disk_or_unwritable_folder_fails_no_answer(tmp_path: Path) -> None:
    """Partial files are removed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        assert ask(tmp_path / "full") == (0, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert files(tmp_path / "full") == []
    (tmp_path / "file").touch()
    assert ask(tmp_path / "file" / "folder") == (0, 1)


def test_an_unreadable_folder_fails_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the engine's thread after `sudo vlrun ask`: Path.exists raises PermissionError. Simulated, since tests may
    run as root.
    """

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    store = PrefixStore(tmp_path, ROOT, LIMIT)
    monkeypatch.setattr(Path, "exists", refuse)
    monkeypatch.setattr(np, "fromfile", refuse)
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with running_engine(FakeDecoder(100), store=store) as engine:
        for _ in range(2):
            assert list(engine.submit(make_request(IMAGE))) == expected_tokens(IMAGE)


@pytest.mark.parametrize("broken", ["longest", "put", "write_blocks", "read_blocks"])
def test_a_failing_store_fails_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Also while the engine closes: blocks are freed and streams end."""
    if broken == "write_blocks":
        ask(tmp_path)
    decoder, store = FakeDecoder(100), PrefixStore(tmp_path, ROOT, LIMIT)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decoder if "blocks" in broken else store, broken, fail)
    with running_engine(decoder, store=store) as engine:
        for _ in range(3):
            assert list(engine.submit(make_request(IMAGE))) == expected_tokens(IMAGE)
        wait_for(lambda: not engine.state().storing)
        decoder.slow = 30
        last = [engine.submit(make_request(IMAGE)) for _ in range(3)]
        engine.stop()
        for stream in last:
            with pytest.raises(EngineClosed):
                list(stream)
            with pytest.raises(EngineClosed):
                list(stream)


def test_features_of_all_images_in_a_prefix_are_stored(tmp_path: Path) -> None:
    """Guards prefixes that end in an image smaller than a block."""
    two = make_prompt([1, (b"red", 9), (b"dot", 1), 5], 6)
    for known in (0, 8):
        encoder = FakeEncoder()
        with running_engine(FakeDecoder(100), encoder, store=PrefixStore(tmp_path, ROOT, LIMIT)) as engine:
            stream = engine.submit(make_request(two))
            assert list(stream) == expected_tokens(two)
        assert stream.metrics.cached_tokens == known
        assert len(encoder.encoded) == (0 if known else 2)


def test_equal_prompts_are_stored_once_and_pending_writes_are_bounded(tmp_path: Path) -> None:
    store = SlowStore(tmp_path, ROOT, LIMIT)
    with running_engine(FakeDecoder(400), store=store) as engine:
        streams = [engine.submit(make_request(IMAGE)) for _ in range(6)]
        others = [engine.submit(make_request(make_prompt([n, (bytes([n]), 30), 3], 4))) for n in range(6)]
        for stream in (*streams, *others):
            list(stream)
        assert engine.state().storing <= 2
    assert 1 <= len(files(tmp_path)) <= 3


class SlowStore(PrefixStore):
    """A store on a slow disk."""

    def put(self, prefix: StoredPrefix) -> None:
        time.sleep(0.3)
        super().put(prefix)


SHARING_SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from vlrun.kv_cache.prefix_store import PrefixStore, StoredPrefix, may_contain
for number in range(60):
    store = PrefixStore(Path(sys.argv[1]), b"model", 9000)
    name = bytes([number % 7]) * 32
    found = store.longest([name], 0, [b"p"])
    assert found is None or (found.blocks == number % 7).all()
    store.put(StoredPrefix((name,), np.full((1, 2048), number % 7, np.uint8), (b"p",)))
"""


@pytest.mark.fault(39)
def test_two_processes_share_the_folder(tmp_path: Path) -> None:
    """Guards against reading the other's partial files, deleting them, and exceeding the common limit."""
    command: list[str | Path] = [sys.executable, "-c", SHARING_SCRIPT, tmp_path]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        assert process.communicate()[1] == b""
    assert all(file.suffix == ".kv" for file in files(tmp_path))
    assert sum(file.stat().st_size for file in files(tmp_path)) <= 9000


WRITING_SCRIPT = """
import os, signal, sys
from pathlib import Path
import numpy as np
from vlrun.kv_cache import prefix_store as store
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
prefixes = store.PrefixStore(Path(sys.argv[1]), b"model", 2**20)
prefixes.put(store.StoredPrefix((b"n" * 32,), np.zeros((1, 2048), np.uint8), (b"p",)))
"""


@pytest.mark.fault(39)
def test_a_file_of_a_killed_process_is_ignored_and_removed(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", WRITING_SCRIPT, tmp_path], env=os.environ, check=False)
    assert run.returncode == -signal.SIGKILL
    (partial,) = files(tmp_path)
    assert partial.suffix == ".part"
    assert ask(tmp_path) == (0, 1)
    assert not partial.exists()
    assert len(files(tmp_path)) == 1


def test_answers_from_disk_equal_computed_ones(
    tied_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the plugin's own block layout, including 8-bit scales."""
    from tests.runtime.test_vlm import QUESTION, image

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options, answers = Options(max_tokens=24, temperature=0), []
    for _ in range(2):
        with load(tied_model, cache=CacheConfig(kv_disk=LIMIT * 64)) as vlm:
            answers.append(vlm.ask([image(160, 96), image(320, 200)], QUESTION, options))
    assert answers[0].text == answers[1].text
    assert answers[0].usage.cached_tokens == 0
    assert answers[1].usage.cached_tokens >= 64
    assert list((tmp_path / "vlrun" / "prefixes").iterdir())
    with load(tied_model) as vlm:
        assert vlm.ask(image(160, 96), QUESTION, options).usage.cached_tokens == 0
