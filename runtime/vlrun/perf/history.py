"""The measured speeds of a model on this machine, stored between runs; they decide the visual tokens of "auto".

A busy moment must not lower the quality of later answers. So the detail is reduced only if several moments far apart
were all slow, one fast measurement at any image size ends that at once, and old measurements are dropped.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from vlrun.backends.cpu_info import cpu_field
from vlrun.perf.profile import SpeedProfile, fastest
from vlrun.storage import cache_paths, files
from vlrun.storage.regular_files import read_regular

AUTO_SECONDS = 15.0
"""Maximum time to process a new image with ``detail="auto"``."""
AUTO_STEPS = (2560, 1280, 1024)
"""Visual tokens that ``detail="auto"`` chooses from: few steps, so that the next question finds the image cached. Text,
counting and boxes need the last one (docs/asking.md), so that no machine is too slow for it.
"""
MOMENT_SECONDS = 600.0
"""Measurements within this time count as one: whatever keeps the machine busy slows all of them."""
MIN_SLOW_MOMENTS = 3
"""Moments that must have been slow before the detail is reduced."""
MAX_MOMENTS = 8
MAX_AGE_SECONDS = 14 * 24 * 3600.0
"""Older measurements are dropped: drivers, power settings and neighbours change."""
MAX_HISTORY_BYTES = 1 << 16
"""Limit on the stored file: each moment has about a hundred bytes, and 20 per image size."""


class Moment(msgspec.Struct, frozen=True):
    """The shortest times within ``MOMENT_SECONDS`` after ``start``, in seconds since the epoch."""

    start: float
    profile: SpeedProfile


class SpeedHistory(msgspec.Struct, frozen=True):
    """The latest moments, in order."""

    moments: tuple[Moment, ...] = ()

    def with_measured(self, measured: SpeedProfile, now: float) -> SpeedHistory:
        """Return the history with a measurement; times that are no positive numbers are ignored."""
        measured, moments = _plausible(measured), self._recent(now)
        if measured == SpeedProfile():
            return SpeedHistory(moments)
        if moments and now - moments[-1].start < MOMENT_SECONDS:
            merged = Moment(moments[-1].start, fastest([moments[-1].profile, measured]))
            return SpeedHistory((*moments[:-1], merged))
        return SpeedHistory((*moments, Moment(now, measured))[-MAX_MOMENTS:])

    def profile(self, now: float) -> SpeedProfile:
        """Return the shortest times."""
        return fastest(moment.profile for moment in self._recent(now))

    def auto_image_tokens(self, now: float) -> int:
        """Return the visual tokens that this machine processes in ``AUTO_SECONDS``.

        Returns the maximum unless ``MIN_SLOW_MOMENTS`` show that it is too much, and never less than the last step.
        """
        measured = [moment.profile for moment in self._recent(now) if moment.profile.vision]
        if len(measured) < MIN_SLOW_MOMENTS:
            return AUTO_STEPS[0]
        profile = fastest(measured)
        for tokens in AUTO_STEPS[:-1]:
            seconds = profile.image_seconds(tokens)
            if seconds is None or seconds <= AUTO_SECONDS:
                return tokens
        return AUTO_STEPS[-1]

    def _recent(self, now: float) -> tuple[Moment, ...]:
        """Return the moments that are not too old; one in the future was stored before the clock was corrected."""
        return tuple(moment for moment in self.moments if 0 <= now - moment.start <= MAX_AGE_SECONDS)


def load_history(fingerprint: str, hints: str) -> SpeedHistory:
    """Return the stored history of a model with these hints on this machine; empty if there is none."""
    with suppress(OSError, msgspec.MsgspecError, RecursionError):
        content = read_regular(_path(fingerprint, hints), MAX_HISTORY_BYTES, follow=False)
        return msgspec.json.decode(content, type=SpeedHistory)
    return SpeedHistory()


def record(fingerprint: str, hints: str, measured: SpeedProfile) -> None:
    """Store a measurement; does nothing if the cache folder is not writable."""
    before = load_history(fingerprint, hints)
    after = before.with_measured(measured, time.time())
    if after == before:
        return
    path = _path(fingerprint, hints)
    with suppress(OSError):
        files.write_cached(path, msgspec.json.encode(after))


def _plausible(profile: SpeedProfile) -> SpeedProfile:
    vision = {tokens: seconds for tokens, seconds in profile.vision.items() if _is_positive(seconds)}
    times = (value if value is not None and _is_positive(value) else None for value in _times(profile))
    return SpeedProfile(vision, *times)


def _times(profile: SpeedProfile) -> tuple[float | None, float | None, float | None]:
    return profile.prefill, profile.decode, profile.load


def _is_positive(seconds: float) -> bool:
    return math.isfinite(seconds) and seconds > 0


def _path(fingerprint: str, hints: str) -> Path:
    name = hashlib.sha256(f"{fingerprint} {hints} {cpu_field('model name')} {os.cpu_count()}".encode())
    return cache_paths.speed_profiles() / f"{name.hexdigest()[:32]}.json"
