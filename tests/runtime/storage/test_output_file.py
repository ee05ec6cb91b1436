"""Files that a user names for output: written as a whole, and nothing of others is lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vlrun.errors import OutputError
from vlrun.storage.output_file import NewFile


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_each_writing_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    file = NewFile(path)
    assert not path.exists()
    for content in (b"one\n", b"one\ntwo\n", b""):
        file.write(content)
        assert path.read_bytes() == content
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert names(tmp_path) == {"out.txt"}


def test_a_file_with_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("precious")
    with pytest.raises(OutputError, match=r"out.txt' exists, and vlrun does not replace it: choose another name"):
        NewFile(path)
    assert path.read_text() == "precious"


def test_an_empty_file_keeps_its_permissions(tmp_path: Path) -> None:
    """``mktemp`` makes files that only their owner can read."""
    path = tmp_path / "out.txt"
    path.touch(mode=0o600)
    NewFile(path).write(b"answer")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"answer", 0o600)


@pytest.mark.parametrize("written_before", [True, False])
def test_what_another_process_wrote_meanwhile_is_kept(written_before: bool, tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    file = NewFile(path)
    if written_before:
        file.write(b"answer")
    path.write_text("of another process")
    with pytest.raises(OutputError, match="exists"):
        file.write(b"answer\nanswer")
    assert path.read_text() == "of another process"
    assert names(tmp_path) == {"out.txt"}


def test_a_file_that_appears_at_the_last_moment_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.txt"
    file = NewFile(path)
    link = Path.hardlink_to

    def late(self: Path, target: Path) -> None:
        path.write_text("of another process")
        link(self, target)

    monkeypatch.setattr(Path, "hardlink_to", late)
    with pytest.raises(OutputError, match="exists"):
        file.write(b"answer")
    assert path.read_text() == "of another process"


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    file = NewFile(tmp_path / "out.txt")
    file.write(b"one")
    file.write(b"two")
    assert (tmp_path / "out.txt").read_bytes() == b"two"
    assert names(tmp_path) == {"out.txt"}


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "out.txt")
    NewFile(link).write(b"answer")
    assert link.is_symlink()
    assert (tmp_path / "out.txt").read_bytes() == b"answer"


IMPOSSIBLE = {
    "folder": "it is a folder",
    "pipe": "it is not a regular file",
    "/dev/null": "it is not a regular file",
    "none/out.txt": "there is no folder",
    "": "folder",
    "x" * 300: "File name too long",
    "a\0b": "null",
}


@pytest.mark.parametrize("name", IMPOSSIBLE, ids=lambda name: repr(name)[:20])
def test_impossible_files_are_refused_before_the_work(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match=IMPOSSIBLE[name]):
        NewFile(tmp_path / name)


def test_a_full_disk_leaves_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = NewFile(tmp_path / "out.txt")
    file.write(b"one")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"cannot write '.*out.txt': No space left on device"):
        file.write(b"one\ntwo")
    assert (tmp_path / "out.txt").read_bytes() == b"one"
    assert names(tmp_path) == {"out.txt"}
