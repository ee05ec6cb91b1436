"""Writing images atomically, and refusing impossible paths in advance."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from PIL import Image as PILImage

from vlrun.errors import OutputError
from vlrun.media.image import open_image
from vlrun.media.output_file import check_target, save_image


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp"])
def test_images_are_written_in_the_format_of_the_suffix(suffix: str, tmp_path: Path) -> None:
    """Links stay links, permissions follow the umask, and no temporary file is left."""
    target = tmp_path / f"out{suffix}"
    link = tmp_path / f"link{suffix}"
    link.symlink_to(target)
    for path in (target, link):
        save_image(PILImage.new("RGB", (30, 20), (200, 30, 40)), path)
    assert link.is_symlink()
    assert open_image(link).size == (30, 20)
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask
    assert {path.name for path in tmp_path.iterdir()} == {target.name, link.name}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.bmp", "must end in .png"),
        ("out", "must end in .png"),
        ("none/out.png", "there is no folder"),
        ("folder.png", "it is a folder"),
        ("x" * 300 + ".png", "File name too long"),
        ("a\0b.png", "null"),
    ],
)
def test_impossible_targets_are_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match=message):
        check_target(tmp_path / name)
    with pytest.raises(OutputError, match=message):
        save_image(PILImage.new("RGB", (3, 3)), tmp_path / name)


def test_a_read_only_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``os.access`` is replaced, because root can write everywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(OutputError, match="is not writable"):
        check_target(tmp_path / "out.png")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.png"
    target.write_bytes(b"old")

    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
        save_image(PILImage.new("RGB", (3, 3)), target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_images_too_large_for_their_format_are_refused(tmp_path: Path) -> None:
    """WebP is limited to 16383 pixels a side."""
    with pytest.raises(OutputError, match=r"out\.webp"):
        save_image(PILImage.new("RGB", (17_000, 1)), tmp_path / "out.webp")
