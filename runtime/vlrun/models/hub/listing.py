"""The files of a repository as the hub lists them. The list is not trusted: names become paths on this machine."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vlrun.errors import HubRefused

MAX_LISTED = 20_000
"""Files of a repository; the largest collections of variants have some hundreds."""
MAX_NAME_BYTES = 240
"""Of a file's name; file systems allow 255 bytes."""
MAX_FILE_BYTES = 50 * 10**9
"""The hub sends no larger file over plain HTTP. A file of the 8B model in FP16 has 5 GB."""
MAX_TOTAL_BYTES = 200 * 10**9
"""Of all files that are fetched; the 8B model in FP16 has 18 GB."""
MAX_FETCHED = 256
"""Files that are fetched; the 8B checkpoint has 15."""
SHA256 = re.compile("[0-9a-f]{64}")
SHA1 = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        name: A plain file name.
        sha256: Its hash, if the hub stores it as a large file; otherwise empty.
        blob: Git's SHA-1 of it, if it is a small file; otherwise empty.
    """

    name: str
    size: int
    sha256: str = ""
    blob: str = ""


@dataclass(frozen=True)
class Listed:
    """An entry of the hub's answer, unchecked."""

    name: object
    size: object
    sha256: object
    blob: object


@dataclass(frozen=True)
class Repository:
    """A repository at one commit. Only files beside each other in its top folder count."""

    name: str
    revision: str
    commit: str
    endpoint: str
    files: Mapping[str, RemoteFile]


def check_listing(repository: str, listed: Iterable[Listed]) -> dict[str, RemoteFile]:
    """Return the files of the top folder by name.

    Raises:
        HubRefused: There are too many, or a name, size or hash is impossible.
    """
    entries = list(listed)
    if len(entries) > MAX_LISTED:
        raise HubRefused(f"'{repository}' lists {len(entries):,} files, the limit is {MAX_LISTED:,}")
    files: dict[str, RemoteFile] = {}
    for entry in entries:
        if not isinstance(entry.name, str) or not _is_safe(entry.name):
            raise HubRefused(f"'{repository}' lists a file with an impossible name: {_shown(entry.name)}")
        if "/" in entry.name:
            continue
        if entry.name in files:
            raise HubRefused(f"'{repository}' lists {_shown(entry.name)} twice: it is not used")
        files[entry.name] = _check_entry(repository, entry)
    return files


def check_fetched(repository: str, files: Iterable[RemoteFile]) -> list[RemoteFile]:
    """Return the files that are to be fetched, the small ones first. Raises HubRefused if that is too much."""
    chosen = sorted(files, key=lambda file: (file.size, file.name))
    total = sum(file.size for file in chosen)
    if len(chosen) > MAX_FETCHED:
        raise HubRefused(f"'{repository}' needs {len(chosen):,} files, the limit is {MAX_FETCHED}")
    if total > MAX_TOTAL_BYTES:
        raise HubRefused(f"'{repository}' has {total:,} bytes, the limit is {MAX_TOTAL_BYTES:,}")
    folded: dict[str, str] = {}
    for file in chosen:
        other = folded.setdefault(unicodedata.normalize("NFC", file.name).casefold(), file.name)
        if other != file.name:
            raise HubRefused(f"'{repository}' has {_shown(other)} and {_shown(file.name)}, one file on other systems")
    return chosen


def _check_entry(repository: str, entry: Listed) -> RemoteFile:
    name, size = str(entry.name), entry.size
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_FILE_BYTES:
        raise HubRefused(f"'{repository}' lists {_shown(name)} with an impossible size, {_shown(size)}")
    sha256 = entry.sha256 if isinstance(entry.sha256, str) and SHA256.fullmatch(entry.sha256) else ""
    blob = entry.blob if isinstance(entry.blob, str) and SHA1.fullmatch(entry.blob) else ""
    if not sha256 and (not blob or entry.sha256):
        raise HubRefused(f"'{repository}' lists {_shown(name)} without a checksum that vlrun knows")
    return RemoteFile(name, size, sha256, "" if sha256 else blob)


def _is_safe(name: str) -> bool:
    """Return whether a path stays inside a folder on every file system, and has no characters that disguise it."""
    parts = name.split("/")
    return (
        all(part not in ("", ".", "..") and len(part.encode(errors="replace")) <= MAX_NAME_BYTES for part in parts)
        and name.isprintable()
        and not set(name) & set('\\:*?"<>|')
    )


def _shown(value: object) -> str:
    return repr(value)[:100]
