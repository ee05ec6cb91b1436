"""Compiled models on disk, without their weights: the next start need not compile again.

OpenVINO's own cache (``CACHE_DIR``) believes whatever lies there: a flipped byte answers wrongly in silence, and other
weights of the same size are not noticed. So each blob is ours: named by the model's manifest, OpenVINO, the device and
all properties, with its own checksum; what is damaged or cannot be taken is removed and compiled anew. Nothing that
fails here fails a start. Knows files and OpenVINO; does not know what the models compute.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import openvino as ov

from vlrun.cache import files

SUFFIX = ".blob"
LIMIT = 256 * 2**20
"""Bytes of all blobs. One takes 1 to 2 MB on a CPU."""


@dataclass(frozen=True)
class BlobCache:
    """Blobs in ``folder`` for the model whose manifest has this ``fingerprint``."""

    folder: Path
    fingerprint: str

    def compiled(
        self, core: ov.Core, model: ov.Model, weights: Path, device: str, config: Mapping[str, str]
    ) -> ov.CompiledModel:
        """A model whose constants lie in the file ``weights``, compiled now or before. Raises RuntimeError as
        ``Core.compile_model`` does.
        """
        weightless = {**config, "CACHE_MODE": "OPTIMIZE_SIZE"}
        path = self._path(core, weights, device, config)
        known = self._load(core, path, device, {**weightless, "WEIGHTS_PATH": str(weights)})
        if known:
            return known
        compiled = core.compile_model(model, device, weightless)
        with contextlib.suppress(OSError, RuntimeError):
            if not path.exists():
                self._write(path, compiled.export_model().getvalue())
        return compiled

    def _load(self, core: ov.Core, path: Path, device: str, config: Mapping[str, str]) -> ov.CompiledModel | None:
        try:
            blob = files.read(path)
            compiled = core.import_model(ov.Tensor(blob), device, dict(config)) if blob.size else None
        except OSError:
            return None
        except ValueError:
            files.remove(path)
            return None
        except RuntimeError:  # whole, and yet not taken back: an empty file says not to try again
            self._write(path, b"")
            return None
        files.used(path)
        return compiled

    def _write(self, path: Path, blob: bytes) -> None:
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.sweep(self.folder)
            files.write(path, [blob])
            files.shrink(self.folder.glob(f"*{SUFFIX}"), LIMIT)

    def _path(self, core: ov.Core, weights: Path, device: str, config: Mapping[str, str]) -> Path:
        """Where the blob of this model, OpenVINO, device and configuration lies."""
        processor = core.get_property(device, "FULL_DEVICE_NAME")
        plugins = {name: version.build_number for name, version in core.get_versions(device).items()}
        depends = f"{self.fingerprint} {weights.name} {ov.get_version()} {processor} {plugins} {sorted(config.items())}"
        return self.folder / f"{hashlib.sha256(depends.encode()).hexdigest()}{SUFFIX}"
