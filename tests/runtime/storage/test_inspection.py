"""``vlrun cache``: what lies in the cache folder, whether it is intact, and removal."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer

from vlrun.backends.openvino.precision_probe import probe_cpu
from vlrun.backends.openvino.tuned import Tuned, save_tuned
from vlrun.cli.commands import commands
from vlrun.embedded import FOLDER
from vlrun.errors import OutputError
from vlrun.kv_cache.prefix_store import PrefixStore, StoredPrefix
from vlrun.perf.history import record
from vlrun.perf.profile import SpeedProfile
from vlrun.storage import files
from vlrun.storage.cache_paths import HISTORY, KINDS
from vlrun.storage.inspection import NAMES
from vlrun.structured.vocabulary import load_vocabulary

PREFIX, BLOB, JSON = f"{'ab' * 8}-{'0f' * 32}.kv", f"{'0f' * 32}.blob", f"{'0f' * 16}.json"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache folder with one intact file of each kind."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for kind in KINDS:
        (tmp_path / "vlrun" / kind).mkdir(parents=True)
    files.write_checked(tmp_path / "vlrun" / "prefixes" / PREFIX, [b"keys and values"])
    files.write_checked(tmp_path / "vlrun" / "compiled" / BLOB, [b"code"])
    (tmp_path / "vlrun" / "verified" / ("0f" * 32)).touch()
    (tmp_path / "vlrun" / "tuned" / JSON).write_text("{}")
    (tmp_path / "vlrun" / "speed" / JSON).write_text("{}")
    return tmp_path / "vlrun"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(commands, ["cache", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_show_counts_files_and_bytes(cache: Path) -> None:
    lines = run("show").splitlines()
    counts = dict.fromkeys((*KINDS, HISTORY), "0") | dict.fromkeys(
        ("prefixes", "compiled", "verified", "tuned", "speed"), "1"
    )
    assert dict(line.split()[:2] for line in lines) == counts
    assert "47 bytes" in lines[0]
    assert str(cache / "prefixes") in lines[0]


@pytest.mark.fault(37)
@pytest.mark.fault(47)
def test_verify_removes_what_is_damaged(cache: Path) -> None:
    """Also FIFOs and devices, which must not block it, and links, whose targets stay."""
    assert run("verify").count("intact") == len(KINDS) + 1
    content = bytearray((cache / "prefixes" / PREFIX).read_bytes())
    content[3] ^= 1
    flipped, deep = PREFIX.replace("ab", "cd"), JSON.replace("0f", "1f")
    zero, fifo = BLOB.replace("0f", "1f"), BLOB.replace("0f", "2f")
    (cache / "prefixes" / flipped).write_bytes(content)
    (cache / "prefixes" / "tmp_ab12.part").write_bytes(b"half")
    (cache / "compiled" / zero).symlink_to("/dev/zero")
    os.mkfifo(cache / "compiled" / fifo)
    (cache / "tuned" / deep).write_text("[" * 100_000)
    output = run("verify")
    for name in (flipped, "tmp_ab12.part", zero, fifo, deep):
        assert f"{name}'" in output
    assert sorted(path.name for path in cache.glob("*/*")) == sorted([PREFIX, BLOB, JSON, JSON, "0f" * 32])
    assert Path("/dev/zero").exists()
    assert run("verify").count("intact") == len(KINDS) + 1


def test_clear_removes_the_given_kinds_or_all(cache: Path) -> None:
    """The history of ``vlrun chat`` cannot be computed again: it is removed only by name."""
    (cache / HISTORY).touch()
    run("clear", "prefixes", "tuned")
    assert sorted(path.parent.name for path in cache.glob("*/*")) == ["compiled", "speed", "verified"]
    run("clear")
    assert not list(cache.glob("*/*"))
    assert f"{HISTORY}     1 files" in run("show")
    run("clear", HISTORY)
    assert not (cache / HISTORY).exists()


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_vlrun_did_not_write_are_left_alone(cache: Path, tmp_path: Path, kind: str) -> None:
    """The folder of a kind was a link to one with other files, and all of them were removed."""
    photos = tmp_path / "photos"
    (photos / "2025").mkdir(parents=True)
    kept = [photos / name for name in ("a.jpg", "2025/b.jpg", "notes.json", "half.part", "model.kv", f"x{PREFIX}")]
    for path in kept:
        path.touch()
    shutil.rmtree(cache / kind)
    (cache / kind).symlink_to(photos)
    assert "a.jpg' was not written by vlrun" in run("verify")
    run("clear")
    assert all(path.exists() for path in kept)


def test_names_are_those_of_the_files_that_vlrun_writes(cache: Path) -> None:
    """Else ``vlrun cache clear`` would leave them."""
    descriptor, partial = tempfile.mkstemp(files.PARTIAL, "", cache)
    os.close(descriptor)
    for kind, pattern in NAMES.items():
        assert pattern.fullmatch(Path(partial).name) or kind in ("verified", HISTORY)
    store = PrefixStore(cache / "prefixes", b"root", 2**20)
    store.put(StoredPrefix((b"h" * 32,), np.zeros((1, 8), np.uint8), (b"image",)))
    record("fingerprint", "hints", SpeedProfile(prefill=1.0))
    save_tuned(Tuned("f32", "f32", 0, None, 1.0, 1.0), "fingerprint", "CPU")
    probe_cpu.__wrapped__(7)
    load_vocabulary(Tokenizer.from_file(str(FOLDER / "tokenizer.json")), 1024, "fingerprint")
    written = list(cache.glob("*/*"))
    assert all(NAMES[path.parent.name].fullmatch(path.name) for path in written)
    assert {path.parent.name for path in written} >= {"prefixes", "speed", "tuned", "vocabulary"}


def test_a_sparse_file_is_not_read_into_memory(cache: Path) -> None:
    """``vlrun cache verify`` ended with a MemoryError."""
    with (cache / "prefixes" / PREFIX).open("wb") as file:
        file.truncate(2**40)
    assert f"{PREFIX}': it has 1,099,511,627,776 bytes" in run("verify")
    assert not list((cache / "prefixes").iterdir())


def test_a_missing_cache_folder_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    for command in ("show", "verify", "clear"):
        run(command)
    assert not (tmp_path / "none").exists()


def test_files_that_cannot_be_removed_are_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, since tests may run as root."""
    (cache / "prefixes" / PREFIX).write_bytes(b"damaged")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    for command in ("verify", "clear"):
        with pytest.raises(OutputError, match="could not be removed"):
            CliRunner().invoke(commands, ["cache", command], catch_exceptions=False, standalone_mode=False)
