"""The compile cache: compiled models on disk without their weights, so that the next start need not compile again.

OpenVINO's own cache (``CACHE_DIR``) trusts whatever it finds: a flipped byte answers wrongly in silence, and other
weights of the same size are not noticed. So vlrun keeps its own blobs, named after the model's manifest, OpenVINO, the
device, its driver and all properties, each with a checksum. A damaged or refused blob is removed and the model compiled
anew. A failure here never fails a start.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import openvino as ov

from vlrun.storage import files

BLOB_VERSION = 1
"""To be raised when the compiled model changes though its files do not, by a new transformation for example."""
SUFFIX, REFUSED_SUFFIX = ".blob", ".refused"
LIMIT = 256 * 2**20
"""Bytes of all blobs. One takes 1 to 2 MB on a CPU."""


@dataclass(frozen=True)
class CompileCache:
    """Blobs in ``folder`` of the model whose manifest has this ``fingerprint``."""

    folder: Path
    fingerprint: str

    def compile_model(
        self, core: ov.Core, model: ov.Model, weights: Path, device: str, config: Mapping[str, str]
    ) -> ov.CompiledModel:
        """Import a model's blob, or compile it and keep the blob.

        ``weights`` is the file that the model's constants lie in. Raises RuntimeError as ``Core.compile_model`` does.
        """
        with contextlib.suppress(RuntimeError):  # a device that supports none of this
            path = self._path(core, weights, device, config)
            weightless = {**config, "CACHE_MODE": "OPTIMIZE_SIZE"}
            imported = self._import(core, path, device, {**weightless, "WEIGHTS_PATH": str(weights)})
            if imported:
                return imported
            compiled = core.compile_model(model, device, weightless)
            with contextlib.suppress(OSError, RuntimeError):
                self._store(path, compiled)
            return compiled
        return core.compile_model(model, device, dict(config))

    def _import(self, core: ov.Core, path: Path, device: str, config: Mapping[str, str]) -> ov.CompiledModel | None:
        """Import a blob, if it is whole and the device accepts it."""
        try:
            compiled = core.import_model(ov.Tensor(files.read_checked(path)), device, dict(config))
        except OSError:
            return None
        except ValueError:
            files.remove(path)
            return None
        except RuntimeError:  # whole, and refused: perhaps the device was busy
            refused = path.with_suffix(REFUSED_SUFFIX)
            with contextlib.suppress(OSError):
                refused.write_bytes(b"2" if refused.exists() else b"1")
            files.remove(path)
            return None
        files.remove(path.with_suffix(REFUSED_SUFFIX))
        files.touch(path)
        return compiled

    def _store(self, path: Path, compiled: ov.CompiledModel) -> None:
        """Keep a blob, unless the device refused it twice before. Raises OSError and RuntimeError."""
        refused = path.with_suffix(REFUSED_SUFFIX)
        if refused.exists() and refused.read_bytes() == b"2":
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.remove_partial(self.folder)
        files.write_checked(path, [compiled.export_model().getvalue()])
        files.evict(self.folder.glob(f"*{SUFFIX}"), LIMIT)

    def _path(self, core: ov.Core, weights: Path, device: str, config: Mapping[str, str]) -> Path:
        """Return the blob's path, which depends on the model, OpenVINO, the device and the properties."""
        driver = ""
        with contextlib.suppress(RuntimeError):
            driver = str(core.get_property(device, "GPU_DRIVER_VERSION"))
        processor = core.get_property(device, "FULL_DEVICE_NAME")
        plugins = {name: version.build_number for name, version in core.get_versions(device).items()}
        where = f"{processor} {driver} {plugins} {ov.get_version()}"
        depends = f"{BLOB_VERSION} {self.fingerprint} {weights.name} {where} {sorted(config.items())}"
        return self.folder / f"{hashlib.sha256(depends.encode()).hexdigest()}{SUFFIX}"
