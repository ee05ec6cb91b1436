"""Prefixes on disk: the keys and values of an image's tokens, so that tomorrow's question about it starts at once.

One file for each prefix, named by its images and by its last block, whose name stands for all that it depends on. A
file is written beside, flushed and renamed; it carries its own checksum, and one that is damaged, cut short or not ours
is removed and never used. Several processes may share the folder; the files used least recently go when it grows beyond
its limit. Nothing that fails here fails an answer. Knows bytes and files; does not know what they mean.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from vlrun.storage import files
from vlrun.types.arrays import Bytes, FloatArray

MAGIC = b"vlrunKV2"
SUFFIX = ".kv"


@dataclass(frozen=True)
class StoredPrefix:
    """``blocks [n, block_bytes]`` with their ``names``, of the ``images`` with these keys; ``tails``: of each image
    that reaches behind the last full block its key and the features ``[rows, tokens, hidden]`` of the visual tokens
    there.
    """

    names: tuple[bytes, ...]
    blocks: Bytes
    images: tuple[bytes, ...]
    tails: tuple[tuple[bytes, FloatArray], ...] = ()

    @property
    def bytes(self) -> int:
        """Size of the content."""
        return self.blocks.nbytes + sum(tail.nbytes for _, tail in self.tails)


class _Header(msgspec.Struct, array_like=True):
    root: bytes
    names: list[bytes]
    block_bytes: int
    images: list[bytes]
    tails: list[tuple[bytes, tuple[int, int, int]]]


def label(images: Sequence[bytes]) -> str:
    """What the files of some images' prefixes begin with, whichever the model."""
    return hashlib.sha256(b"".join(images)).hexdigest()[:16]


def may_know(folder: Path, images: Sequence[bytes]) -> bool:
    """Whether a prefix of these images, given by their keys, seems to be stored; perhaps by another model."""
    try:
        return any(folder.glob(f"{label(images)}-*{SUFFIX}"))
    except OSError:
        return False


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
            files.sweep(folder)

    def longest(self, names: Sequence[bytes], known: int, images: Sequence[bytes]) -> StoredPrefix | None:
        """The longest stored prefix among ``names`` that has more than ``known`` blocks, of the first of these images
        or more of them.
        """
        found = self._found(images)
        for count in range(len(names), known, -1):
            path = found.get(names[count - 1].hex())
            prefix = self._read(path, tuple(names[:count])) if path else None
            if path and prefix:
                files.used(path)
                return prefix
        return None

    def holds(self, name: bytes, images: Sequence[bytes]) -> bool:
        """Whether the prefix of these images that ends with this block seems to be there."""
        try:
            return self._path(name, images).exists()
        except OSError:  # a folder that we may not look into
            return False

    def fits(self, size: int) -> bool:
        """Whether a prefix of so many bytes may be stored at all: one must not drive out all others."""
        return size <= self._limit // 2

    def put(self, prefix: StoredPrefix) -> None:
        """Write a prefix, and make room for it. A full or read-only disk is no error: then there is no file."""
        shapes = [(key, tail.shape) for key, tail in prefix.tails]
        tails = [tail for _, tail in prefix.tails]
        header = msgspec.msgpack.encode((self.root, prefix.names, prefix.blocks.shape[1], prefix.images, shapes))
        contents = [np.ascontiguousarray(part).data.cast("B") for part in (prefix.blocks, *tails)]
        parts: list[bytes | memoryview] = [MAGIC, len(header).to_bytes(8, "little"), header, *contents]
        if self.fits(prefix.bytes):
            with contextlib.suppress(OSError):
                files.write(self._path(prefix.names[-1], prefix.images), parts)
                files.shrink(self._folder.glob(f"*{SUFFIX}"), self._limit)

    def _path(self, name: bytes, images: Sequence[bytes]) -> Path:
        return self._folder / f"{label(images)}-{name.hex()}{SUFFIX}"

    def _found(self, images: Sequence[bytes]) -> dict[str, Path]:
        """What there is of these images, or the first of them, by the name of the last block, in hex."""
        found = {}
        with contextlib.suppress(OSError):
            for count in range(1, len(images) + 1):
                for path in self._folder.glob(f"{label(images[:count])}-*{SUFFIX}"):
                    found[path.stem.partition("-")[2]] = path
        return found

    def _read(self, path: Path, names: tuple[bytes, ...]) -> StoredPrefix | None:
        """The prefix in a file, or None. A file that is there and is not what its name says is removed."""
        try:
            prefix = self._parse(files.read(path))
            if prefix.names == names:
                return prefix
        except OSError:
            return None
        except (ValueError, msgspec.MsgspecError):
            pass
        files.remove(path)
        return None

    def _parse(self, body: Bytes) -> StoredPrefix:
        """Raises ValueError or MsgspecError if the content is not ours."""
        if body[: len(MAGIC)].tobytes() != MAGIC:
            raise ValueError("something else")
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
        return StoredPrefix(tuple(header.names), blocks, tuple(header.images), tuple(tails))
