"""Chooses the files of a repository that vlrun needs: those of one layout, and no other format of the same weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from vlrun import manifest as manifests
from vlrun.errors import DamagedModel, HubRefused
from vlrun.manifest import MANIFEST, MAX_MANIFEST_BYTES
from vlrun.models.folder_facts import Content, content_of, why_not
from vlrun.models.hf_config.files import CONFIG_BYTES
from vlrun.models.hf_config.model_config import CONFIG, read_config
from vlrun.models.hub.listing import RemoteFile, Repository, check_fetched
from vlrun.models.opened_files import OpenedFiles
from vlrun.models.ready_folder import FolderConfig, files_of

Fetch = Callable[[RemoteFile], object]
"""Downloads a file into the folder."""
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
SETTINGS = re.compile(r"(?!vlrun-source).*\.(json|jinja)|merges\.txt")
"""What the export may read beside the weights."""
TERMS = re.compile(r"(?i)(licen[cs]e|notice)[\w.-]*")
"""They have to go with the weights."""


def choose_files(repository: Repository, folder: Path, fetch: Fetch) -> tuple[Content, list[RemoteFile]]:
    """Return what a repository holds, and the files to fetch, the small ones first.

    Args:
        repository: The repository.
        folder: Where files are downloaded to.
        fetch: Downloads a small file that describes the others.

    Raises:
        HubRefused: It holds nothing that vlrun can run or convert.
        ModelError: It describes itself wrongly.
    """
    content, files = content_of(repository.files.keys()), repository.files
    if content is Content.VLRUN:
        names = _of_manifest(repository, folder, fetch)
    elif content is Content.OPTIMUM:
        _check_config(repository, folder, fetch)
        names = _existing(repository, files_of(files))
    elif content is Content.CHECKPOINT:
        _check_config(repository, folder, fetch)
        names = [*_weights(repository, folder, fetch), *filter(SETTINGS.fullmatch, files)]
    else:
        raise HubRefused(f"'{repository.name}' {why_not(content)}")
    names += filter(TERMS.fullmatch, files)
    return content, check_fetched(repository.name, [files[name] for name in dict.fromkeys(names)])


def _check_config(repository: Repository, folder: Path, fetch: Fetch) -> None:
    """Check the architecture before the weights are fetched. Raises ModelError."""
    _small(repository, CONFIG, CONFIG_BYTES, folder, fetch)
    opened = OpenedFiles(folder)
    opened.open(CONFIG)
    config = FolderConfig(opened)
    config.folder = Path(repository.name)  # for messages
    read_config(config)


def _of_manifest(repository: Repository, folder: Path, fetch: Fetch) -> list[str]:
    """Return the files of a folder of vlrun. Its manifest must agree with the hub before anything large is fetched."""
    origin = Path(repository.name)
    manifest = manifests.parse(_small(repository, MANIFEST, MAX_MANIFEST_BYTES, folder, fetch), origin)
    for name, entry in manifest.files.items():
        file = repository.files.get(name)
        if file is None:
            raise HubRefused(f"'{repository.name}' lacks {name}, which its {MANIFEST} lists")
        if file.size != entry.size or (file.sha256 and file.sha256 != entry.sha256):
            raise HubRefused(f"'{repository.name}' has another {name} than its {MANIFEST} says")
    return [MANIFEST, *manifest.files]


def _weights(repository: Repository, folder: Path, fetch: Fetch) -> list[str]:
    """Return the weight files of a checkpoint: the shards of the index, or the one file."""
    if INDEX in repository.files:
        content = _small(repository, INDEX, CONFIG_BYTES, folder, fetch)
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


def _small(repository: Repository, name: str, limit: int, folder: Path, fetch: Fetch) -> bytes:
    """Fetch a small file and return its content. Raises HubRefused if there is none, or it is large."""
    (name,) = _existing(repository, [name])
    file = repository.files[name]
    if file.size > limit:
        raise HubRefused(f"{name} of '{repository.name}' has {file.size:,} bytes, the limit is {limit:,}")
    fetch(file)
    return (folder / name).read_bytes()
