"""Chooses the files of a repository that vlrun needs: those of one layout, and no other format of the same weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import msgspec

from vlrun import manifest as manifests
from vlrun.errors import DamagedModel, HubRefused
from vlrun.manifest import MANIFEST, MAX_MANIFEST_BYTES
from vlrun.models.hub.listing import RemoteFile, Repository, check_fetched
from vlrun.models.layouts import (
    CONFIG,
    MAX_CONFIG_BYTES,
    Layout,
    check_config,
    check_convertible,
    layout_of,
    needed_files,
    why_not,
)

Read = Callable[[RemoteFile], bytes]
"""Downloads a small file and returns its content."""
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
TEXTS = re.compile(r"(?i)(licen[cs]e|notice)[\w.-]*")
"""Terms that have to go with the weights."""


def choose_files(repository: Repository, read: Read) -> tuple[Layout, list[RemoteFile]]:
    """Return what a repository holds, and the files to fetch, the small ones first.

    Args:
        repository: The repository.
        read: Downloads a small file that describes the others.

    Raises:
        HubRefused: It holds nothing that vlrun can run or convert.
        ModelError: It describes itself wrongly.
    """
    layout = layout_of(repository.files.keys())
    if layout is Layout.VLRUN:
        names = _of_manifest(repository, read)
    elif layout is Layout.OPTIMUM:
        check_config(_small(repository, CONFIG, MAX_CONFIG_BYTES, read), repository.name)
        names = needed_files(layout, repository.files)
        _check_pairs(repository, names)
    elif layout is Layout.CHECKPOINT:
        check_convertible(_small(repository, CONFIG, MAX_CONFIG_BYTES, read), repository.name)
        names = [*_weights(repository, read), *needed_files(layout, repository.files)]
    else:
        raise HubRefused(f"'{repository.name}' {why_not(layout)}")
    names += [name for name in repository.files if TEXTS.fullmatch(name)]
    return layout, check_fetched(repository.name, [repository.files[name] for name in dict.fromkeys(names)])


def _of_manifest(repository: Repository, read: Read) -> list[str]:
    """Return the files of a folder of vlrun. Its manifest must agree with the hub before anything large is fetched."""
    origin = Path(repository.name)
    manifest = manifests.parse(_small(repository, MANIFEST, MAX_MANIFEST_BYTES, read), origin)
    for name, entry in manifest.files.items():
        file = repository.files.get(name)
        if file is None:
            raise HubRefused(f"'{repository.name}' lacks {name}, which its {MANIFEST} lists")
        if file.size != entry.size or (file.sha256 and file.sha256 != entry.sha256):
            raise HubRefused(f"'{repository.name}' has another {name} than its {MANIFEST} says")
    return [MANIFEST, *manifest.files]


def _weights(repository: Repository, read: Read) -> list[str]:
    """Return the weight files of a checkpoint: the shards of the index, or the one file."""
    if INDEX in repository.files:
        content = _small(repository, INDEX, MAX_CONFIG_BYTES, read)
        try:
            shards = msgspec.json.decode(content, type=_Index).weight_map.values()
        except (msgspec.DecodeError, RecursionError) as error:
            raise DamagedModel(f"the {INDEX} of '{repository.name}' is damaged ({error})") from error
        return _existing(repository, {INDEX, *shards})
    return _existing(repository, [WEIGHTS])


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def _existing(repository: Repository, names: Iterable[str]) -> list[str]:
    found = sorted(set(names))
    for name in found:
        if name not in repository.files:
            raise HubRefused(f"'{repository.name}' lacks {name[:100]!r}")
    return found


def _check_pairs(repository: Repository, names: Iterable[str]) -> None:
    """Raise HubRefused if a graph lacks its weights."""
    for name in names:
        path = PurePosixPath(name)
        if path.suffix == ".xml" and path.with_suffix(".bin").name not in repository.files:
            raise HubRefused(f"'{repository.name}' lacks {path.with_suffix('.bin').name}")


def _small(repository: Repository, name: str, limit: int, read: Read) -> bytes:
    file = repository.files.get(name)
    if file is None:
        raise HubRefused(f"'{repository.name}' lacks {name}")
    if file.size > limit:
        raise HubRefused(f"{name} of '{repository.name}' has {file.size:,} bytes, the limit is {limit:,}")
    return read(file)
