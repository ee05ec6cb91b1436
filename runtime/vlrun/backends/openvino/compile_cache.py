"""Compiled models on disk, without their weights: the next start need not compile again.

OpenVINO's own cache (``CACHE_DIR``) believes whatever lies there: a flipped byte answers wrongly in silence, and other
weights of the same size are not noticed. So each blob is ours: named by the model's manifest, OpenVINO, the device, its
driver and all properties, with its own checksum; what is damaged or refused is removed and compiled anew. Nothing that
fails here fails a start. Knows files and OpenVINO; does not know what the models compute.
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
"""To be raised when what is compiled changes though the model's files do not: a transformation of ours, say."""
SUFFIX, REFUSED = ".blob", ".refused"
LIMIT = 256 * 2**20
"""Bytes of all blobs. One takes 1 to 2 MB on a CPU."""


@dataclass(frozen=True)
class CompileCache:
    """Blobs in ``folder`` for the model whose manifest has this ``fingerprint``."""

    folder: Path
    fingerprint: str

    def compiled(
        self, core: ov.Core, model: ov.Model, weights: Path, device: str, config: Mapping[str, str]
    ) -> ov.CompiledModel:
        """A model whose constants lie in the file ``weights``, compiled now or before. Raises RuntimeError as
        ``Core.compile_model`` does.
        """
        with contextlib.suppress(RuntimeError):  # a device that knows none of this
            path = self._path(core, weights, device, config)
            weightless = {**config, "CACHE_MODE": "OPTIMIZE_SIZE"}
            known = self._load(core, path, device, {**weightless, "WEIGHTS_PATH": str(weights)})
            if known:
                return known
            compiled = core.compile_model(model, device, weightless)
            with contextlib.suppress(OSError, RuntimeError):
                self._store(path, compiled)
            return compiled
        return core.compile_model(model, device, dict(config))

    def _load(self, core: ov.Core, path: Path, device: str, config: Mapping[str, str]) -> ov.CompiledModel | None:
        """What lies there, if it is whole and the device takes it."""
        try:
            compiled = core.import_model(ov.Tensor(files.read(path)), device, dict(config))
        except OSError:
            return None
        except ValueError:
            files.remove(path)
            return None
        except RuntimeError:  # whole, and refused: perhaps the device was busy
            refused = path.with_suffix(REFUSED)
            with contextlib.suppress(OSError):
                refused.write_bytes(b"2" if refused.exists() else b"1")
            files.remove(path)
            return None
        files.remove(path.with_suffix(REFUSED))
        files.used(path)
        return compiled

    def _store(self, path: Path, compiled: ov.CompiledModel) -> None:
        """Keep a blob, unless its like was refused twice: then it is of no use. Raises OSError, RuntimeError."""
        refused = path.with_suffix(REFUSED)
        if refused.exists() and refused.read_bytes() == b"2":
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.sweep(self.folder)
        files.write(path, [compiled.export_model().getvalue()])
        files.shrink(self.folder.glob(f"*{SUFFIX}"), LIMIT)

    def _path(self, core: ov.Core, weights: Path, device: str, config: Mapping[str, str]) -> Path:
        """Where the blob of this model, OpenVINO, device and configuration lies."""
        driver = ""
        with contextlib.suppress(RuntimeError):
            driver = str(core.get_property(device, "GPU_DRIVER_VERSION"))
        processor = core.get_property(device, "FULL_DEVICE_NAME")
        plugins = {name: version.build_number for name, version in core.get_versions(device).items()}
        where = f"{processor} {driver} {plugins} {ov.get_version()}"
        depends = f"{BLOB_VERSION} {self.fingerprint} {weights.name} {where} {sorted(config.items())}"
        return self.folder / f"{hashlib.sha256(depends.encode()).hexdigest()}{SUFFIX}"
