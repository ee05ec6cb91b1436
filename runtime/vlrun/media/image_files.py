"""Finds the files of a question about each image: in folders, by patterns, or by name."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from vlrun.errors import MediaNotFound, OptionError
from vlrun.media.sources import local_path

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .png .webp .bmp .gif .tif .tiff .mpo .heic .heif .hif .avif .svg .pdf .psd".split()
)
"""Of names that users give to images. vlrun says of some of them why it cannot read them."""
VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .3gp .flv .wmv .ogv".split())


def find_images(*names: str | os.PathLike[str], recursive: bool = False) -> Iterator[str]:
    """Yield the files of folders, patterns and names, in alphabetical order within each folder.

    A file of a folder is taken if its suffix is that of an image and its name does not begin with a dot. Links to
    folders are not followed. Only the names of one folder at a time are in memory.

    Args:
        names: Folders, files, or patterns such as ``shelf_*.jpg``; a file of that very name has priority.
        recursive: Also take the files of subfolders.

    Raises:
        MediaNotFound: There is no such file or folder, or no file matches a pattern.
    """
    for name in names:
        if not isinstance(name, str | os.PathLike):
            raise OptionError(f"names must be paths or patterns, not {type(name).__name__}")
        yield from _find(os.fsdecode(name), recursive)


def is_pattern(name: str) -> bool:
    """Return whether a name is a pattern, and no file of that very name exists."""
    return glob.has_magic(name) and not os.path.lexists(name)


def matches(pattern: str) -> list[str]:
    """Return the files that match a pattern, in which ``**`` is any folder, in alphabetical order."""
    found = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    return sorted(match for match in found if not Path(match).is_dir())


def has_image_suffix(name: str) -> bool:
    """Return whether a name ends as those of images do."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 - Path refuses some names


def has_media_suffix(name: str) -> bool:
    """Return whether a name ends as those of images or videos do."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES  # noqa: PTH122


def _find(name: str, recursive: bool) -> Iterator[str]:
    path = local_path(name)
    try:
        if path.is_dir():
            yield from _in_folder(path, recursive)
        elif is_pattern(os.fspath(path)):
            if not (files := matches(os.fspath(path))):
                raise MediaNotFound(f"no file matches '{name}'")
            yield from files
        elif path.exists():
            yield os.fspath(path)
        else:
            raise MediaNotFound(f"no such file or folder: '{name}'")
    except ValueError:  # a NUL
        raise MediaNotFound(f"cannot open '{name}': not a path") from None
    except OSError as error:
        raise MediaNotFound(f"cannot open '{error.filename or name}': {error.strerror}") from error


def _in_folder(folder: Path, recursive: bool) -> Iterator[str]:
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    files = sorted(entry.path for entry in visible if has_image_suffix(entry.name) and not _is_folder(entry))
    folders = sorted(entry.path for entry in visible if recursive and entry.is_dir(follow_symlinks=False))
    yield from files
    for path in folders:
        yield from _in_folder(Path(path), recursive)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a link in a circle is a file that cannot be opened."""
    try:
        return entry.is_dir()
    except OSError:
        return False
