"""Parses the arguments ``IMAGE... [QUESTION]``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlrun.cli.terminal import print_note
from vlrun.errors import OptionError
from vlrun.media.image_files import has_media_suffix, is_pattern, matches

CLIPBOARD = "--clipboard"
"""Stands for the image in the clipboard."""
URLS = ("https://", "http://")


def split_arguments(
    words: Sequence[str], questions: Sequence[str] = (), *, folders: bool = False, clipboard: bool = False
) -> tuple[list[str], list[str | None]]:
    """Separate images and questions.

    Without ``questions`` the last word is the question, unless it is ``-``, a file, or looks like an image file name.
    With spaces it looks like one only in a folder that exists; otherwise a note says that it is the question. With
    ``folders``, folders and patterns of file names are images too. With ``clipboard``, its image is the first one.

    Raises:
        OptionError: There is no image, or a question is empty.
    """
    images, asked = [*[CLIPBOARD] * clipboard, *words], list(questions)
    if not asked and words and not (_is_image(words[-1]) or (folders and _names_images(words[-1]))):
        asked = [images.pop()]
        if images and has_media_suffix(asked[0]):
            print_note(f"there is no file '{asked[0]}', so it is taken for the question")
    if any(not question.strip() for question in asked):
        raise OptionError("the question is empty; leave it out to get a description")
    if not images:
        reason = f"'{asked[0]}' is neither a file nor an image file name" if asked else "name a file, or - for stdin"
        raise OptionError(f"no image given: {reason}")
    if images.count("-") > 1:
        raise OptionError("only one image can come from stdin")
    return images, [*asked] or [None]


def _names_images(word: str) -> bool:
    """Return whether a word is a folder, or a pattern that matches: a question may end in "?"."""
    try:
        return Path(word).is_dir() or word.endswith("/") or (is_pattern(word) and bool(matches(word)))
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return False


def _is_image(word: str) -> bool:
    if word == "-" or word.lower().startswith(("file:/", *URLS)):
        return True
    try:
        path = Path(word)
        return (path.exists() and not path.is_dir()) or (
            has_media_suffix(word)
            and (not any(map(str.isspace, word)) or (path.parent != Path() and path.parent.is_dir()))
        )
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return False


def is_file(image: str) -> bool:
    """Return whether an image is a file of this machine, not stdin, the clipboard or a URL."""
    return image not in ("-", CLIPBOARD) and not image.lower().startswith(URLS)
