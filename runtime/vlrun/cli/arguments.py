"""Parses the arguments ``IMAGE... [QUESTION]``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlrun.cli.terminal import print_note
from vlrun.errors import OptionError

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .png .webp .bmp .gif .tif .tiff .mpo .heic .heif .avif .svg .pdf .psd".split()
)
"""A missing file with such a suffix is an error, not a question."""


def split_arguments(words: Sequence[str], questions: Sequence[str] = ()) -> tuple[list[str], list[str | None]]:
    """Separate images and questions.

    Without ``questions`` the last word is the question, unless it is ``-``, a file, or looks like an image file name.
    With spaces it looks like one only in a folder that exists; otherwise a note says that it is the question.

    Raises:
        OptionError: There is no image, or a question is empty.
    """
    images, asked = list(words), list(questions)
    if not asked and words and not _is_image(words[-1]):
        asked = [images.pop()]
        if images and _has_image_suffix(asked[0]):
            print_note(f"there is no file '{asked[0]}', so it is taken for the question")
    if any(not question.strip() for question in asked):
        raise OptionError("the question is empty; leave it out to get a description")
    if not images:
        reason = f"'{asked[0]}' is neither a file nor an image file name" if asked else "name a file, or - for stdin"
        raise OptionError(f"no image given: {reason}")
    if images.count("-") > 1:
        raise OptionError("only one image can come from stdin")
    return images, [*asked] or [None]


def _is_image(word: str) -> bool:
    if word == "-" or word.lower().startswith("file:/"):
        return True
    try:
        path = Path(word)
        return (path.exists() and not path.is_dir()) or (
            _has_image_suffix(word)
            and (not any(map(str.isspace, word)) or (path.parent != Path() and path.parent.is_dir()))
        )
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return False


def _has_image_suffix(word: str) -> bool:
    return Path(word).suffix.lower() in IMAGE_SUFFIXES
