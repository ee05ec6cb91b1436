"""Reads text files that the user names: bounded, in UTF-8, with or without a byte order mark.

Such a file may be a pipe, as of ``--schema <(program)``. Files that others may have made are opened by `regular_files`.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import AnyStr

BYTE_ORDER_MARK = "\ufeff"
"""Editors on Windows write it at the beginning of a file."""
FOREIGN_ACCESS = stat.S_IWGRP | stat.S_IWOTH | stat.S_IROTH
"""Modes of a file that is not private."""


def without_byte_order_mark(content: AnyStr) -> AnyStr:
    """Return text, or its UTF-8, without a byte order mark."""
    if isinstance(content, str):
        return content.removeprefix(BYTE_ORDER_MARK)
    return content.removeprefix(BYTE_ORDER_MARK.encode())


def read_text(path: str | os.PathLike[str], limit: int, *, private: bool = False) -> str:
    """Read a text of at most ``limit`` bytes, without its byte order mark.

    Args:
        path: The file or pipe.
        limit: Maximum size in bytes.
        private: Only the owner may write it, and only owner and group may read it. The open file is checked, so that
            it cannot be exchanged.

    Raises:
        OSError: It cannot be read, is larger, is not UTF-8, or is not private; ``strerror`` says which.
    """
    try:
        with Path(path).open("rb") as file:
            if private and os.fstat(file.fileno()).st_mode & FOREIGN_ACCESS:
                raise OSError(errno.EACCES, f"others may read or change it: chmod 600 {path}")
            content = file.read(limit + 1)
        if len(content) > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes, the limit")
        return without_byte_order_mark(content).decode()
    except UnicodeDecodeError:
        raise OSError(errno.EILSEQ, "it is not UTF-8 text") from None
    except ValueError:  # a NUL character
        raise OSError(errno.EINVAL, "it is not a path") from None
