"""Reads the image in the clipboard of the desktop, with the programs that desktops have for that."""

from __future__ import annotations

import os
import shutil
import subprocess

from vlrun.errors import MediaNotFound, MediaTooLarge, OptionError

_WAYLAND = ("wl-paste", "--no-newline", "--type")
_X11 = ("xclip", "-selection", "clipboard", "-out", "-target")
_KINDS = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff")
"""In the order of preference. Programs offer most images as PNG, too."""
_SECONDS = 10
"""For a program that offers an image and does not give it."""


def read_clipboard(max_bytes: int) -> bytes:
    """Return the encoded image in the clipboard.

    Raises:
        OptionError: There is no clipboard, or no program to read it.
        MediaNotFound: It has no image.
        MediaTooLarge: The image has too many bytes.
    """
    command = _command()
    for kind in _KINDS:
        try:
            done = subprocess.run([*command, kind], capture_output=True, timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise MediaNotFound(f"the clipboard does not answer within {_SECONDS} s: copy the image again") from None
        except OSError as error:
            raise OptionError(f"cannot run '{command[0]}' to read the clipboard: {error.strerror}") from None
        if done.returncode == 0 and done.stdout:
            if len(done.stdout) > max_bytes:
                raise MediaTooLarge(f"the image in the clipboard has more than {max_bytes:,} bytes, the limit")
            return done.stdout
    raise MediaNotFound("there is no image in the clipboard: copy one, or name a file")


def _command() -> tuple[str, ...]:
    """Return the command that writes the clipboard to stdout, without the type."""
    wanted = [("WAYLAND_DISPLAY", _WAYLAND, "wl-clipboard"), ("DISPLAY", _X11, "xclip")]
    offered = [(command, package) for variable, command, package in wanted if os.environ.get(variable)]
    for command, _ in offered:
        if shutil.which(command[0]):
            return command
    if not offered:
        raise OptionError("--clipboard needs a desktop, and there is none here: name a file, or - for stdin")
    raise OptionError(f"--clipboard needs the program '{offered[0][0][0]}': run sudo apt install {offered[0][1]}")
