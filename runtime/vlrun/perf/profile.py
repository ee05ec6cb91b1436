"""The measured speed of a model on this machine, stored between runs; it decides the visual tokens of detail "auto".

The shortest times are kept, because other load only makes a machine slower.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from vlrun.regular_files import read_regular
from vlrun.storage import cache_paths, files

if TYPE_CHECKING:
    from vlrun.types.answer import Answer

AUTO_SECONDS = 15.0
"""Maximum time to process a new image with ``detail="auto"``."""
AUTO_STEPS = (2560, 1280, 1024, 768, 512, 256)
"""Visual tokens that ``detail="auto"`` chooses from: few steps, so that the next question finds the image cached."""
MIN_TOKENS = 32
"""Measurements of shorter prompts and smaller images are ignored."""
MIN_PASSES = 8
PREFILL_CHUNK = 512
"""Prompt tokens per pass (``engine.scheduler.SchedulerConfig``)."""
MAX_QUEUE_SECONDS = 0.05
"""A request that waited longer probably shared the machine with others."""
ATTENTION_SHARE = 0.5
"""Quadratic share of the time for an image of ``ATTENTION_AT`` visual tokens (docs/performance.md)."""
ATTENTION_AT = 768
MAX_PROFILE_BYTES = 1 << 16
CPU_INFO = Path("/proc/cpuinfo")


class SpeedProfile(msgspec.Struct, frozen=True):
    """Measured seconds, or None.

    Attributes:
        vision: Encoding an image, by its visual tokens.
        prefill: Per prompt token.
        decode: Per pass of the decoder.
        load: Loading the model.
    """

    vision: Mapping[int, float] = {}
    prefill: float | None = None
    decode: float | None = None
    load: float | None = None

    @classmethod
    def from_answer(cls, answer: Answer, vision_seconds: Mapping[int, float]) -> SpeedProfile:
        """Return the times of one answer.

        Prefill is per token that was not cached; decode is per pass, which can produce several tokens.

        Args:
            answer: The answer.
            vision_seconds: Seconds to encode images, by visual tokens.
        """
        usage, times = answer.usage, answer.timings
        computed = usage.prompt_tokens - usage.cached_tokens
        passes = usage.forward_passes - -(-computed // PREFILL_CHUNK)
        has_decoded = times.tpot is not None and passes >= MIN_PASSES
        has_prefilled = computed >= MIN_TOKENS and times.queue < MAX_QUEUE_SECONDS
        return cls(
            vision={tokens: seconds for tokens, seconds in vision_seconds.items() if tokens >= MIN_TOKENS},
            prefill=times.prefill / computed if has_prefilled else None,
            decode=(times.tpot or 0) * (usage.completion_tokens - 1) / passes if has_decoded else None,
            load=times.load,
        )

    def vision_seconds(self, tokens: int) -> float | None:
        """Estimate the time for an image of ``tokens`` visual tokens from the measured image nearest in size."""
        if not self.vision:
            return None
        nearest = min(self.vision, key=lambda measured: abs(measured - tokens))
        return self.vision[nearest] * _relative_cost(tokens) / _relative_cost(nearest)

    def fastest(self, other: SpeedProfile) -> SpeedProfile:
        """Return the smaller value of both profiles in each field."""
        vision = {
            tokens: min(profile[tokens] for profile in (self.vision, other.vision) if tokens in profile)
            for tokens in {**self.vision, **other.vision}
        }
        times = (_min(getattr(self, name), getattr(other, name)) for name in ("prefill", "decode", "load"))
        return SpeedProfile(vision, *times)


def auto_image_tokens(profile: SpeedProfile) -> int:
    """Return the visual tokens that this machine processes in ``AUTO_SECONDS``; the maximum without measurements."""
    for tokens in AUTO_STEPS[:-1]:
        seconds = profile.vision_seconds(tokens)
        if seconds is None or seconds + tokens * (profile.prefill or 0) <= AUTO_SECONDS:
            return tokens
    return AUTO_STEPS[-1]


def load_profile(fingerprint: str, hints: str) -> SpeedProfile:
    """Return the stored profile of a model with these hints on this machine; empty if there is none."""
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(
            read_regular(_path(fingerprint, hints), MAX_PROFILE_BYTES, follow=False), type=SpeedProfile
        )
    return SpeedProfile()


def update_profile(fingerprint: str, hints: str, measured: SpeedProfile) -> None:
    """Store times that are shorter than before; does nothing if the cache folder is not writable."""
    before = load_profile(fingerprint, hints)
    after = before.fastest(measured)
    if after == before:
        return
    path = _path(fingerprint, hints)
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_atomic(path, msgspec.json.encode(after))


def _relative_cost(tokens: int) -> float:
    return tokens * (1 - ATTENTION_SHARE + ATTENTION_SHARE * tokens / ATTENTION_AT)


def _min(*seconds: float | None) -> float | None:
    return min((value for value in seconds if value is not None), default=None)


def _path(fingerprint: str, hints: str) -> Path:
    name = hashlib.sha256(f"{fingerprint} {hints} {_cpu_model()} {os.cpu_count()}".encode())
    return cache_paths.speed_profiles() / f"{name.hexdigest()[:32]}.json"


def _cpu_model() -> str:
    with suppress(OSError):
        for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line
    return ""
