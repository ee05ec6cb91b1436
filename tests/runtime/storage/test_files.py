"""Files of the cache: special and oversized files neither block nor fill the memory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from vlrun.storage import files
from vlrun.storage.regular_files import read_regular

SPECIAL = ("FIFO", "link", "folder", "sparse")


def plant(path: Path, kind: str) -> None:
    """Put a file of this kind where a cache file would lie."""
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(2**40)


def test_cache_folders_are_for_one_user_whatever_the_umask(tmp_path: Path) -> None:
    """With a umask of 0, as in some containers, everyone could write to the folder, so that it was never used again."""
    umask = os.umask(0)
    try:
        files.make_folder(tmp_path / "cache" / "vlrun" / "prefixes")
    finally:
        os.umask(umask)
    for folder in ("cache/vlrun", "cache/vlrun/prefixes"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700


@pytest.mark.fault(47)
@pytest.mark.parametrize("kind", SPECIAL)
def test_special_files_are_not_read(tmp_path: Path, kind: str) -> None:
    """Guards a FIFO, which blocked for ever, and /dev/zero, which filled the memory."""
    path = tmp_path / "file.kv"
    plant(path, kind)
    with pytest.raises(OSError, match=r"regular file|symbolic links|limit"):
        files.read_checked(path, 1000)
    with pytest.raises(OSError, match=r"regular file|symbolic links|limit"):
        read_regular(path, 1000, follow=False)
    files.evict([path], 2**50)


@pytest.mark.fault(47)
@pytest.mark.parametrize("kind", SPECIAL)
def test_special_files_with_the_name_of_a_partial_one_do_not_block(tmp_path: Path, kind: str) -> None:
    plant(tmp_path / "tmp_ab12.part", kind)
    files.remove_partial(tmp_path)
    for content in (b"old", b"new"):
        files.write_atomic(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_special_file_is_replaced_by_an_atomic_write(tmp_path: Path) -> None:
    """Guards a link in the cache through which another file would be overwritten."""
    (tmp_path / "target").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    files.write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_text() == "precious"
    assert (tmp_path / "link").read_bytes() == b"new"


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    """/proc has files of size 0 that have content; here one stands for a growing file."""
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_regular("/proc/self/maps", 10)
    assert read_regular("/proc/self/comm", 100)


def test_partial_files_of_ended_processes_are_removed_with_the_next_write(tmp_path: Path) -> None:
    """They stayed for ever in every folder of JSON files. Those of live writers, and of others, stay."""
    left, foreign = tmp_path / "tmp_ab12.part", tmp_path / "half of a film.part"
    for path in (left, foreign):
        path.write_bytes(b"half")
    with (tmp_path / "tmp_live.part").open("wb") as live:
        fcntl.flock(live, fcntl.LOCK_EX)
        files.write_cached(tmp_path / "file", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", foreign.name, "tmp_live.part"]
