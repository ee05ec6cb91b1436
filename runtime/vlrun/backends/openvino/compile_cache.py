"""The compile cache: compiled models on disk, without their weights, for faster starts.

OpenVINO's own cache (``CACHE_DIR``) does not check its files: a flipped byte or other weights of the same size give
wrong answers silently. vlrun keeps its own blobs, each with a checksum and keyed by manifest, OpenVINO version, device,
driver and properties. A damaged or refused blob is removed and the model compiled again. No failure here fails a start.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import openvino as ov

from vlrun.storage import files
from vlrun.storage.regular_files import read_regular

BLOB_VERSION = 2
"""Raise it when the compiled model changes although its files do not, for example by a new transformation."""
SUFFIX, REFUSED_SUFFIX = ".blob", ".refused"
LIMIT = 256 * 2**20
"""Total bytes of all blobs."""


@dataclass(frozen=True)
class CompileCache:
    """The blobs in ``folder`` of the model with this ``fingerprint``, for a device with this ``driver``."""

    folder: Path
    fingerprint: str
    driver: str

    def compile_model(
        self,
        core: ov.Core,
        model: ov.Model,
        weights: Path,
        device: str,
        config: Mapping[str, str],
        check_unchanged: Callable[[], None],
    ) -> ov.CompiledModel:
        """Import a model's blob, or compile the model and store its blob.

        Args:
            core: OpenVINO's core.
            model: The model.
            weights: The file of its constants.
            device: The device.
            config: OpenVINO properties.
            check_unchanged: Raises if the model's files changed since they were opened; then no blob is stored.

        Raises RuntimeError as ``Core.compile_model`` does.
        """
        with contextlib.suppress(RuntimeError):  # the device does not support cached models
            path = self._path(core, model, weights, device, config)
            weightless = {**config, "CACHE_MODE": "OPTIMIZE_SIZE"}
            imported = self._import(core, path, device, {**weightless, "WEIGHTS_PATH": str(weights)})
            if imported:
                return imported
            compiled = core.compile_model(model, device, weightless)
            check_unchanged()
            with contextlib.suppress(OSError, RuntimeError):
                self._store(path, compiled)
            return compiled
        return core.compile_model(model, device, dict(config))

    def _import(self, core: ov.Core, path: Path, device: str, config: Mapping[str, str]) -> ov.CompiledModel | None:
        """Import a blob if it is intact and the device accepts it."""
        try:
            compiled = core.import_model(ov.Tensor(files.read_checked(path, LIMIT)), device, dict(config))
        except OSError:
            return None
        except ValueError:
            files.remove(path)
            return None
        except RuntimeError:  # intact but refused; the device may have been busy
            refused = path.with_suffix(REFUSED_SUFFIX)
            with contextlib.suppress(OSError):
                files.write_atomic(refused, b"2" if refused.exists() else b"1")
            files.remove(path)
            return None
        files.remove(path.with_suffix(REFUSED_SUFFIX))
        files.touch(path)
        return compiled

    def _store(self, path: Path, compiled: ov.CompiledModel) -> None:
        """Store a blob unless the device refused it twice. Raises OSError and RuntimeError."""
        refused = path.with_suffix(REFUSED_SUFFIX)
        if refused.exists() and read_regular(refused, 1, follow=False) == b"2":
            return
        files.make_folder(self.folder)
        files.remove_partial(self.folder)
        files.write_checked(path, [compiled.export_model().getvalue()])
        files.evict(self.folder.glob(f"*{SUFFIX}"), LIMIT)

    def _path(self, core: ov.Core, model: ov.Model, weights: Path, device: str, config: Mapping[str, str]) -> Path:
        """Return the blob's path, a hash of the model and its shapes, OpenVINO, the device and the properties."""
        processor = core.get_property(device, "FULL_DEVICE_NAME")
        plugins = {name: version.build_number for name, version in core.get_versions(device).items()}
        where = f"{processor} {self.driver} {plugins} {ov.get_version()}"
        shapes = [f"{port.partial_shape}" for port in model.inputs]
        depends = f"{BLOB_VERSION} {self.fingerprint} {weights.name} {shapes} {where} {sorted(config.items())}"
        return self.folder / f"{hashlib.sha256(depends.encode()).hexdigest()}{SUFFIX}"
