"""Prefixes on disk: the keys and values of a picture's tokens, so that tomorrow's question about it starts at once.

One file for each prefix, named by the model's root and the name of its last block, which stands for all that it
depends on. A file is written beside, flushed and renamed; it carries its own checksum, and one that is damaged, cut
short or not ours is removed and never used. Several processes may share the folder; the files used least recently go
when it grows beyond its limit. Nothing that fails here fails an answer. Knows bytes and files; does not know what they
mean.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

MAGIC = b"vlrunKV1"
SUFFIX, PART = ".kv", ".part"

Bytes: TypeAlias = npt.NDArray[np.uint8]
FloatArray: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StoredPrefix:
    """``blocks [n, block_bytes]`` with their ``names``; ``tails``: of each picture that reaches behind the last full
    block its key and the features ``[rows, tokens, hidden]`` of the visual tokens there.
    """

    names: tuple[bytes, ...]
    blocks: Bytes
    tails: tuple[tuple[bytes, FloatArray], ...] = ()

    @property
    def bytes(self) -> int:
        """Size of the content."""
        return self.blocks.nbytes + sum(tail.nbytes for _, tail in self.tails)


class _Header(msgspec.Struct, array_like=True):
    root: bytes
    names: list[bytes]
    block_bytes: int
    tails: list[tuple[bytes, tuple[int, int, int]]]


class PrefixStore:
    """The files of one model (``root``) in ``folder``, which holds those of others too; all of them within ``limit``
    bytes.
    """

    def __init__(self, folder: Path, root: bytes, limit: int) -> None:
        self._folder = folder
        self.root = root
        self._limit = limit
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()

    def longest(self, names: Sequence[bytes], known: int) -> StoredPrefix | None:
        """The longest stored prefix among ``names`` that has more than ``known`` blocks."""
        for count in range(len(names), known, -1):
            prefix = self._read(self._path(names[count - 1]), tuple(names[:count]))
            if prefix:
                with contextlib.suppress(OSError):
                    os.utime(self._path(names[count - 1]))
                return prefix
        return None

    def __contains__(self, name: bytes) -> bool:
        try:
            return self._path(name).exists()
        except OSError:  # a folder that we may not look into
            return False

    def fits(self, size: int) -> bool:
        """Whether a prefix of so many bytes may be stored at all: one must not drive out all others."""
        return size <= self._limit // 2

    def put(self, prefix: StoredPrefix) -> None:
        """Write a prefix, and make room for it. A full or read-only disk is no error: then there is no file."""
        shapes = [(key, tail.shape) for key, tail in prefix.tails]
        tails = [tail for _, tail in prefix.tails]
        header = msgspec.msgpack.encode((self.root, prefix.names, prefix.blocks.shape[1], shapes))
        contents = [np.ascontiguousarray(part).data.cast("B") for part in (prefix.blocks, *tails)]
        parts: list[bytes | memoryview] = [MAGIC, len(header).to_bytes(8, "little"), header, *contents]
        if self.fits(prefix.bytes):
            with contextlib.suppress(OSError):
                self._write(self._path(prefix.names[-1]), parts)
                self._shrink()

    def _path(self, name: bytes) -> Path:
        return self._folder / f"{self.root.hex()[:16]}-{name.hex()}{SUFFIX}"

    def _write(self, path: Path, parts: Sequence[bytes | memoryview]) -> None:
        descriptor, name = tempfile.mkstemp(PART, "", self._folder)
        part = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # a file that nobody locks was left by a process that died
                digest = hashlib.sha256()
                for piece in parts:
                    digest.update(piece)
                    file.write(piece)
                file.write(digest.digest())
                file.flush()
                os.fsync(file.fileno())
                part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def _read(self, path: Path, names: tuple[bytes, ...]) -> StoredPrefix | None:
        """The prefix in a file, or None. A file that is there and is not what its name says is removed."""
        try:
            content = np.fromfile(path, np.uint8)
        except OSError:
            return None
        with contextlib.suppress(ValueError, msgspec.MsgspecError):
            prefix = self._parse(content)
            if prefix.names == names:
                return prefix
        with contextlib.suppress(OSError):
            path.unlink()
        return None

    def _parse(self, content: Bytes) -> StoredPrefix:
        """Raises ValueError or MsgspecError if the content is not whole or not ours."""
        size = hashlib.sha256().digest_size
        body, checksum = content[:-size], content[-size:].tobytes()
        if body[: len(MAGIC)].tobytes() != MAGIC or hashlib.sha256(body.data).digest() != checksum:
            raise ValueError("damaged")
        begin = len(MAGIC) + 8
        end = begin + int.from_bytes(body[len(MAGIC) : begin].tobytes(), "little")
        header = msgspec.msgpack.decode(body[begin:end].tobytes(), type=_Header)
        if header.root != self.root:
            raise ValueError("another model's")
        start, end = end, end + len(header.names) * header.block_bytes
        blocks = body[start:end].reshape(len(header.names), header.block_bytes)
        tails = []
        for key, shape in header.tails:
            start, end = end, end + 4 * math.prod(shape)
            tails.append((key, body[start:end].copy().view(np.float32).reshape(shape)))
        return StoredPrefix(tuple(header.names), blocks, tuple(tails))

    def _shrink(self) -> None:
        """Remove the files used least recently until all fit into the limit."""
        files = []
        for path in self._folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError):  # another process was faster
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        excess = sum(size for _, size, _ in files) - self._limit
        for _, size, path in sorted(files):
            if excess <= 0:
                return
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            excess -= size

    def _sweep(self) -> None:
        """Remove half-written files of processes that are gone."""
        for path in self._folder.glob(f"*{PART}"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
