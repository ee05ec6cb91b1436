"""An opened model folder: every file is opened once, when the model is loaded.

What happens to the folder's path later has no effect: another working directory, a folder that was switched or removed.
Weights stay mapped to their files, however, so a change in place changes the model under the running process, and a
file that was cut short ends it with SIGBUS. ``check_unchanged`` finds both; it is called around every inference.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

from vlrun import manifest as manifests
from vlrun.errors import DamagedModel, ModelChanged
from vlrun.manifest import MANIFEST, FileEntry, Manifest
from vlrun.models import ready_folder
from vlrun.models.hf_config.chat_template import chat_template
from vlrun.models.opened_files import OpenedFiles, Stamp


class ModelFolder(OpenedFiles):
    """A model folder whose files are open. They are closed with the last reference.

    Args:
        folder: Path of the folder: one that ``vlrun export`` made, or one of optimum-intel without a manifest.

    Attributes:
        name: The path as it was given, for messages.
        manifest: The folder's manifest, or the one that describes a folder without a manifest.
        fingerprint: SHA-256 of the manifest. It identifies the model, because the manifest has the hash of every file.
        has_manifest: Whether the folder has hashes of its own, made when it was exported.

    Raises:
        ModelNotFound: The folder or its manifest does not exist or cannot be read.
        ForeignModel: The format or family is not supported.
        DamagedModel: A file is missing, cannot be read, is not a regular file, or has another size.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.has_manifest = MANIFEST in self.names()
        if self.has_manifest:
            raw = manifests.read_bytes(folder, self._directory)
            self.manifest: Manifest = manifests.parse(raw, folder)
            for name, entry in self.manifest.files.items():
                self._open_sized(name, entry)
        else:
            raw = ready_folder.describe(self, folder)
            self.manifest = dataclasses.replace(
                manifests.parse(raw, folder), name=Path(os.path.realpath(folder)).name or self.name
            )
        self.fingerprint = hashlib.sha256(raw).hexdigest()

    def read(self, name: str) -> bytes:
        """Read a file. Raises DamagedModel or ModelChanged."""
        content = super().read(name)
        self.check_unchanged(name)
        return content

    def chat_template(self) -> str:
        """Return the chat template. Raises DamagedModel or ModelChanged."""
        return chat_template(ready_folder.FolderConfig(self))

    def check_hashes(self) -> None:
        """Raise DamagedModel if the SHA-256 of a file is not that of the manifest. Reads the whole folder."""
        for name, entry in self.manifest.files.items():
            if self.hash(name) != entry.sha256:
                raise DamagedModel(
                    f"{name} in '{self.name}' is not the file that was exported: export or copy it again"
                )

    def check_unchanged(self, *names: str) -> None:
        """Check that files have the bytes that they had when they were opened.

        Fast unless their stamps have changed. Then they are hashed, because moving or removing a file changes its stamp
        too.

        Args:
            names: The files; without any, all.

        Raises:
            ModelChanged: A file was changed.
        """
        for name in names or self._descriptors:
            stamp = Stamp.of(self._descriptors[name])
            if stamp == self._stamps[name]:
                continue
            entry = self.manifest.files[name]
            if stamp.size != entry.size or self.hash(name) != entry.sha256:
                raise ModelChanged(f"{name} in '{self.name}' was changed while the model was loaded: load it again")
            self._stamps[name] = stamp

    def _open_sized(self, name: str, entry: FileEntry) -> None:
        size = self.open(name).size
        if size != entry.size:
            raise DamagedModel(
                f"{name} in '{self.name}' has {size:,} bytes instead of {entry.size:,}: export or copy it again"
            )
