"""Finding the images of folders and patterns."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vlrun.errors import MediaNotFound, OptionError
from vlrun.media.image_files import find_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg", "._b.JPG", "sub/c.webp", "sub/deep/d.heic", "e.jpg/x"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "z.png").symlink_to(tmp_path / "a.png")
    return tmp_path


def names(folder: Path, *given: str, recursive: bool = False) -> list[str]:
    found = find_images(*(str(folder / name) for name in given), recursive=recursive)
    return [os.path.relpath(name, folder) for name in found]


def test_the_images_of_a_folder_in_order(folder: Path) -> None:
    """Not hidden ones (macOS writes ._photo.jpg), no other files; a folder may be called like an image."""
    assert names(folder, "") == ["a.png", "b.JPG", "z.png"]


def test_subfolders_only_on_request_and_no_loops(folder: Path) -> None:
    assert names(folder, "", recursive=True) == ["a.png", "b.JPG", "z.png", "sub/c.webp", "sub/deep/d.heic"]


def test_patterns_and_files(folder: Path) -> None:
    """A file that is named is taken whatever its suffix is."""
    assert names(folder, "*.[jp]*", "notes.txt") == ["a.png", "z.png", "notes.txt"]
    (folder / "[1].png").touch()
    assert names(folder, "[1].png") == ["[1].png"]
    assert list(find_images((folder / "a.png").as_uri())) == [str(folder / "a.png")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "no such file or folder: '.*nowhere'"),
        ("*.tiff", "no file matches"),
        ("a\0b", "no such file or folder|not a path"),
        ("a" * 300, "File name too long"),
    ],
)
def test_what_is_not_there_is_an_error(folder: Path, name: str, message: str) -> None:
    with pytest.raises(MediaNotFound, match=message):
        names(folder, name)


def test_a_subfolder_that_may_not_be_opened_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may open all; the error had the name of the outer folder."""
    real = os.scandir

    def scandir(path: str) -> object:
        if Path(path).name == "sub":
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(MediaNotFound, match=r"cannot open '.*/sub': Permission denied"):
        names(folder, "", recursive=True)


def test_names_are_paths() -> None:
    with pytest.raises(OptionError, match="names must be paths"):
        list(find_images(5))  # type: ignore[arg-type]
