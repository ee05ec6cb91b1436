"""The stored results of ``vlrun tune``, which loading a model uses."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import openvino as ov

from vlrun.backends.openvino.hints import Hints
from vlrun.errors import OptionError
from vlrun.storage import cache_paths, files
from vlrun.storage.regular_files import read_regular

MAX_RESULT_BYTES = 1 << 16
"""Limit on a stored result, which has a few hundred bytes."""


class Tuned(msgspec.Struct, frozen=True):
    """The fastest properties, and the seconds of ``autotune``'s request with them and with the defaults."""

    decoder_precision: str | None
    vision_precision: str | None
    group_size: int | None
    threads: int | None
    seconds: float
    default_seconds: float

    @classmethod
    def of(cls, hints: Hints, seconds: float, default_seconds: float) -> Tuned:
        """Return the result for hints."""
        return cls(
            hints.decoder_precision,
            hints.vision_precision,
            hints.group_size,
            hints.threads,
            seconds,
            default_seconds,
        )

    def apply(self, hints: Hints) -> Hints:
        """Return the hints with the tuned properties. Raises OptionError if they are refused by now."""
        return replace(
            hints,
            decoder_precision=self.decoder_precision,
            vision_precision=self.vision_precision,
            group_size=self.group_size,
            threads=self.threads,
        )


def load_tuned(fingerprint: str, device: str) -> Tuned | None:
    """Return the stored result for this model and device; None if there is none, or it is damaged or refused by now."""
    try:
        content = read_regular(_path(fingerprint, device), MAX_RESULT_BYTES, follow=False)
        tuned = msgspec.json.decode(content, type=Tuned)
        tuned.apply(Hints(device=device))
    except (OSError, RuntimeError, msgspec.MsgspecError, OptionError):  # RuntimeError: an unknown device
        return None
    return tuned


def save_tuned(tuned: Tuned, fingerprint: str, device: str) -> None:
    """Store a result. Raises OSError if the cache folder is not writable."""
    path = _path(fingerprint, device)
    files.write_cached(path, msgspec.json.encode(tuned))


def _path(fingerprint: str, device: str) -> Path:
    """Return the file of the result for this model, processor and OpenVINO version."""
    processor = ov.Core().get_property(device, "FULL_DEVICE_NAME")
    name = hashlib.sha256(f"{fingerprint} {processor} {ov.get_version()} {os.cpu_count()}".encode())
    return cache_paths.tuned_hints() / f"{name.hexdigest()[:32]}.json"
