"""``vlrun cache``: what lies in the cache folder, whether it is intact, and removal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from vlrun.cli.commands import commands
from vlrun.errors import OutputError
from vlrun.storage import files
from vlrun.storage.cache_paths import KINDS


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache folder with one intact file of each kind."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for kind in KINDS:
        (tmp_path / "vlrun" / kind).mkdir(parents=True)
    files.write_checked(tmp_path / "vlrun" / "prefixes" / "good.kv", [b"keys and values"])
    files.write_checked(tmp_path / "vlrun" / "compiled" / "good.blob", [b"code"])
    (tmp_path / "vlrun" / "verified" / "00ff").touch()
    (tmp_path / "vlrun" / "tuned" / "good.json").write_text("{}")
    (tmp_path / "vlrun" / "speed" / "good.json").write_text("{}")
    return tmp_path / "vlrun"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(commands, ["cache", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_show_counts_files_and_bytes(cache: Path) -> None:
    lines = run("show").splitlines()
    counts = dict.fromkeys(KINDS, "0") | dict.fromkeys(("prefixes", "compiled", "verified", "tuned", "speed"), "1")
    assert dict(line.split()[:2] for line in lines) == counts
    assert "47 bytes" in lines[0]
    assert str(cache / "prefixes") in lines[0]


@pytest.mark.fault(37)
@pytest.mark.fault(47)
def test_verify_removes_what_is_damaged(cache: Path) -> None:
    """Also FIFOs and devices, which must not block it, and links, whose targets stay."""
    assert run("verify").count("intact") == len(KINDS)
    content = bytearray((cache / "prefixes" / "good.kv").read_bytes())
    content[3] ^= 1
    (cache / "prefixes" / "flipped.kv").write_bytes(content)
    (cache / "prefixes" / "left.part").write_bytes(b"half")
    (cache / "compiled" / "zero.blob").symlink_to("/dev/zero")
    os.mkfifo(cache / "compiled" / "fifo.blob")
    (cache / "tuned" / "deep.json").write_text("[" * 100_000)
    (cache / "speed" / "sub").mkdir()
    (cache / "speed" / "sub" / "file").touch()
    output = run("verify")
    for name in ("flipped.kv", "left.part", "zero.blob", "fifo.blob", "deep.json", "sub"):
        assert f"{name}'" in output
    assert sorted(path.name for path in cache.glob("*/*")) == ["00ff", "good.blob", *["good.json"] * 2, "good.kv"]
    assert Path("/dev/zero").exists()
    assert run("verify").count("intact") == len(KINDS)


def test_clear_removes_the_given_kinds_or_all(cache: Path) -> None:
    """The history of ``vlrun chat`` is no cache."""
    (cache / "chat_history").touch()
    run("clear", "prefixes", "tuned")
    assert sorted(path.parent.name for path in cache.glob("*/*")) == ["compiled", "speed", "verified"]
    run("clear")
    assert not list(cache.glob("*/*"))
    assert (cache / "chat_history").exists()


def test_a_missing_cache_folder_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    for command in ("show", "verify", "clear"):
        run(command)
    assert not (tmp_path / "none").exists()


def test_files_that_cannot_be_removed_are_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, since tests may run as root."""
    (cache / "prefixes" / "good.kv").write_bytes(b"damaged")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    for command in ("verify", "clear"):
        with pytest.raises(OutputError, match="could not be removed"):
            CliRunner().invoke(commands, ["cache", command], catch_exceptions=False, standalone_mode=False)
