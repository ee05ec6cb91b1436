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
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

MAGIC = b"vlrunKV1"
SUFFIX, PART = ".kv", ".part"

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class StoredPrefix:
    """``blocks [n, block_bytes]`` with their ``names``; ``tail [rows, tokens, hidden]``: features of the visual tokens
    behind the last full block, of the picture ``key``.
    """

    names: tuple[bytes, ...]
    blocks: Bytes
    key: bytes
    tail: npt.NDArray[np.float32]


class _Header(msgspec.Struct, array_like=True):
    root: bytes
    names: list[bytes]
    block_bytes: int
    key: bytes
    tail: list[int]


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
            path = self._path(names[count - 1])
            if path.exists():
                prefix = self._read(path)
                if prefix and prefix.names == tuple(names[:count]):
                    with contextlib.suppress(OSError):
                        os.utime(path)
                    return prefix
                with contextlib.suppress(OSError):
                    path.unlink()
        return None

    def __contains__(self, name: bytes) -> bool:
        return self._path(name).exists()

    def put(self, prefix: StoredPrefix) -> None:
        """Write a prefix, and make room for it. A full or read-only disk is no error: then there is no file."""
        header = msgspec.msgpack.encode(
            _Header(self.root, list(prefix.names), prefix.blocks.shape[1], prefix.key, list(prefix.tail.shape))
        )
        parts = [MAGIC, len(header).to_bytes(8, "little"), header, prefix.blocks.data, prefix.tail.tobytes()]
        if sum(len(memoryview(part).cast("B")) for part in parts) > self._limit:
            return
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

    def _read(self, path: Path) -> StoredPrefix | None:
        """The prefix in a file, or None if the file is not what it should be."""
        try:
            content = np.fromfile(path, np.uint8)
            size = hashlib.sha256().digest_size
            body, checksum = content[:-size], content[-size:].tobytes()
            if body[: len(MAGIC)].tobytes() != MAGIC or hashlib.sha256(body.data).digest() != checksum:
                return None
            begin = len(MAGIC) + 8
            end = begin + int.from_bytes(body[len(MAGIC) : begin].tobytes(), "little")
            header = msgspec.msgpack.decode(body[begin:end].tobytes(), type=_Header)
            if header.root != self.root:
                return None
            blocks = body[end : end + len(header.names) * header.block_bytes]
            tail = body[end + len(blocks) :].copy().view(np.float32).reshape(header.tail)
            return StoredPrefix(tuple(header.names), blocks.reshape(-1, header.block_bytes), header.key, tail)
        except (OSError, ValueError, msgspec.MsgspecError):
            return None

    def _shrink(self) -> None:
        """Remove the files used least recently until all fit into the limit."""
        known = ((path.stat(), path) for path in self._folder.glob(f"*{SUFFIX}"))
        files = sorted(known, key=lambda file: file[0].st_mtime_ns)
        excess = sum(status.st_size for status, _ in files) - self._limit
        for status, path in files:
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= status.st_size

    def _sweep(self) -> None:
        """Remove half-written files of processes that are gone."""
        for path in self._folder.glob(f"*{PART}"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
