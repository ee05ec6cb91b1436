"""The prefix store: KV cache blocks of image prefixes on disk, for later processes.

One file holds one prefix. Its name contains a hash of the images and the hash of the last block, which covers
everything that the content depends on. Files are written atomically with a checksum; a damaged or foreign file is
removed and never used. Several processes may share the folder. Beyond its limit the least recently used files are
removed. No failure here fails an answer.
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
    """A prefix on disk.

    Attributes:
        hashes: Block hashes.
        blocks: Block contents, ``[n, block_bytes]``.
        image_keys: Keys of the images, in order.
        tails: For each image that extends beyond the last full block, its key and the features
            ``[1 + deepstack, tokens, hidden]`` of the tokens beyond.
    """

    hashes: tuple[bytes, ...]
    blocks: Bytes
    image_keys: tuple[bytes, ...]
    tails: tuple[tuple[bytes, FloatArray], ...] = ()

    @property
    def nbytes(self) -> int:
        """Size of the content in bytes."""
        return self.blocks.nbytes + sum(tail.nbytes for _, tail in self.tails)


class _Header(msgspec.Struct, array_like=True):
    root: bytes
    hashes: list[bytes]
    block_bytes: int
    image_keys: list[bytes]
    tails: list[tuple[bytes, tuple[int, int, int]]]


def file_prefix(image_keys: Sequence[bytes]) -> str:
    """Return the start of the file names for these images, the same for all models."""
    return hashlib.sha256(b"".join(image_keys)).hexdigest()[:16]


def may_contain(folder: Path, image_keys: Sequence[bytes]) -> bool:
    """Return whether ``folder`` has a prefix of these images, possibly of another model. Reads no file."""
    try:
        return any(folder.glob(f"{file_prefix(image_keys)}-*{SUFFIX}"))
    except OSError:
        return False


class PrefixStore:
    """The stored prefixes of one model, in a folder that other models may share.

    Args:
        folder: Created if missing.
        root: Root hash of the block hashes.
        limit: Total bytes of the files in the folder.
    """

    def __init__(self, folder: Path, root: bytes, limit: int) -> None:
        self._folder = folder
        self.root = root
        self._limit = limit
        with contextlib.suppress(OSError):
            files.make_folder(folder)
            files.remove_partial(folder)

    def longest(self, hashes: Sequence[bytes], cached: int, image_keys: Sequence[bytes]) -> StoredPrefix | None:
        """Return the longest stored prefix of ``hashes`` with more than ``cached`` blocks, if any.

        Args:
            hashes: Block hashes of the prompt.
            cached: Number of its blocks in the KV cache.
            image_keys: Images of the prompt. A prefix may hold all or the first few.
        """
        found = self._files_by_last_hash(image_keys)
        for count in range(len(hashes), cached, -1):
            path = found.get(hashes[count - 1].hex())
            prefix = self._read(path, tuple(hashes[:count])) if path else None
            if path and prefix:
                files.touch(path)
                return prefix
        return None

    def contains(self, last_hash: bytes, image_keys: Sequence[bytes]) -> bool:
        """Return whether the prefix of these images that ends with this block is stored."""
        try:
            return self._path(last_hash, image_keys).exists()
        except OSError:  # no permission to read the folder
            return False

    def fits(self, size: int) -> bool:
        """Return whether a prefix of ``size`` bytes may be stored: at most half of the limit."""
        return size <= self._limit // 2

    def put(self, prefix: StoredPrefix) -> None:
        """Write a prefix and evict others beyond the limit. Does nothing on a full or read-only disk."""
        shapes = [(key, tail.shape) for key, tail in prefix.tails]
        header = msgspec.msgpack.encode((self.root, prefix.hashes, prefix.blocks.shape[1], prefix.image_keys, shapes))
        arrays = (prefix.blocks, *(tail for _, tail in prefix.tails))
        contents = [np.ascontiguousarray(array).data.cast("B") for array in arrays]
        parts: list[bytes | memoryview] = [MAGIC, len(header).to_bytes(8, "little"), header, *contents]
        if self.fits(prefix.nbytes):
            with contextlib.suppress(OSError):
                files.write_checked(self._path(prefix.hashes[-1], prefix.image_keys), parts)
                files.evict(self._folder.glob(f"*{SUFFIX}"), self._limit)

    def _path(self, last_hash: bytes, image_keys: Sequence[bytes]) -> Path:
        return self._folder / f"{file_prefix(image_keys)}-{last_hash.hex()}{SUFFIX}"

    def _files_by_last_hash(self, image_keys: Sequence[bytes]) -> dict[str, Path]:
        """Return the files of all or the first few images, by the hex hash of the last block."""
        found = {}
        with contextlib.suppress(OSError):
            for count in range(1, len(image_keys) + 1):
                for path in self._folder.glob(f"{file_prefix(image_keys[:count])}-*{SUFFIX}"):
                    found[path.stem.partition("-")[2]] = path
        return found

    def _read(self, path: Path, hashes: tuple[bytes, ...]) -> StoredPrefix | None:
        """Read a file. A file whose content does not match its name is removed."""
        try:
            prefix = self._parse(files.read_checked(path, self._limit))
            if prefix.hashes == hashes:
                return prefix
        except OSError:
            return None
        except (ValueError, msgspec.MsgspecError, RecursionError):
            pass
        files.remove(path)
        return None

    def _parse(self, body: Bytes) -> StoredPrefix:
        """Parse a file's content. Raises ValueError or MsgspecError for foreign content."""
        if body[: len(MAGIC)].tobytes() != MAGIC:
            raise ValueError("not a prefix file")
        begin = len(MAGIC) + 8
        end = begin + int.from_bytes(body[len(MAGIC) : begin].tobytes(), "little")
        header = msgspec.msgpack.decode(body[begin:end].tobytes(), type=_Header)
        if header.root != self.root:
            raise ValueError("a prefix of another model")
        start, end = end, end + len(header.hashes) * header.block_bytes
        blocks = body[start:end].reshape(len(header.hashes), header.block_bytes)
        tails = []
        for key, shape in header.tails:
            start, end = end, end + 4 * math.prod(shape)
            tails.append((key, body[start:end].copy().view(np.float32).reshape(shape)))
        return StoredPrefix(tuple(header.hashes), blocks, tuple(header.image_keys), tuple(tails))
