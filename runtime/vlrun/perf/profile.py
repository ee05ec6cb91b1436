"""How fast this box has been with a model: what ``vlrun plan`` tells, and how much detail it can afford.

The least seconds ever seen are kept, for a busy machine is slower than it is. Knows clocks and one small file; knows
neither devices nor images.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import platformdirs

from vlrun.storage import files

if TYPE_CHECKING:
    from vlrun.types.answer import Answer

AUTO_SECONDS = 15.0
"""A new image that nobody chose a detail for should be understood in that time."""
AUTO_STEPS = (2560, 1280, 1024, 768, 512, 256)
"""Visual tokens that ``detail`` auto may choose: few, so that the next question finds the image in the cache."""
LEAST_TOKENS = 32
"""Visual tokens of an image from which on its seconds say something."""
LEAST_PASSES = 8
PREFILL_CHUNK = 512
"""Tokens of a prompt in one pass (``engine.scheduler.SchedulerConfig``)."""
ALONE_SECONDS = 0.05
"""A question that waited longer was not alone."""
ATTENTION_SHARE = 0.5
"""Of the time for an image of ``ATTENTION_AT`` visual tokens, what grows with their square (docs/performance.md)."""
ATTENTION_AT = 768
CPU_INFO = Path("/proc/cpuinfo")


class SpeedProfile(msgspec.Struct, frozen=True):
    """Seconds: ``vision`` by visual tokens of an image, ``prefill`` and ``decode`` per token, ``load``."""

    vision: Mapping[int, float] = {}
    prefill: float | None = None
    decode: float | None = None
    load: float | None = None

    def vision_seconds(self, tokens: int) -> float | None:
        """For an image of so many visual tokens, reckoned from the nearest one that was seen; None if none was."""
        if not self.vision:
            return None
        nearest = min(self.vision, key=lambda seen: abs(seen - tokens))
        return self.vision[nearest] * _effort(tokens) / _effort(nearest)

    def joined(self, other: SpeedProfile) -> SpeedProfile:
        """The faster of both in each."""
        vision = {
            tokens: min(known[tokens] for known in (self.vision, other.vision) if tokens in known)
            for tokens in {**self.vision, **other.vision}
        }
        return SpeedProfile(
            vision,
            _least(self.prefill, other.prefill),
            _least(self.decode, other.decode),
            _least(self.load, other.load),
        )


def of_answer(answer: Answer, vision_seconds: Mapping[int, float]) -> SpeedProfile:
    """What one answer says, and its images' own seconds by visual tokens. Prefill counts for a prompt that was
    computed; decode by passes of the decoder, of which each may give several tokens.
    """
    usage, times = answer.usage, answer.timings
    computed = usage.prompt_tokens - usage.cached_tokens
    passes = usage.forward_passes - -(-computed // PREFILL_CHUNK)
    enough = times.tpot is not None and passes >= LEAST_PASSES
    return SpeedProfile(
        vision={tokens: seconds for tokens, seconds in vision_seconds.items() if tokens >= LEAST_TOKENS},
        prefill=times.prefill / computed if computed >= LEAST_TOKENS and times.queue < ALONE_SECONDS else None,
        decode=(times.tpot or 0) * (usage.completion_tokens - 1) / passes if enough else None,
        load=times.load,
    )


def auto_image_tokens(speed: SpeedProfile) -> int:
    """Visual tokens an image that this box sees in ``AUTO_SECONDS``; the most where nothing is known."""
    for tokens in AUTO_STEPS[:-1]:
        seconds = speed.vision_seconds(tokens)
        if seconds is None or seconds + tokens * (speed.prefill or 0) <= AUTO_SECONDS:
            return tokens
    return AUTO_STEPS[-1]


def known(fingerprint: str, hints: str) -> SpeedProfile:
    """What was seen of this model, with these hints, on this box before."""
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(_path(fingerprint, hints).read_bytes(), type=SpeedProfile)
    return SpeedProfile()


def learn(fingerprint: str, hints: str, seen: SpeedProfile) -> None:
    """Remember it, if the user's cache folder can be written."""
    before = known(fingerprint, hints)
    after = before.joined(seen)
    if after == before:
        return
    path = _path(fingerprint, hints)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.put(path, msgspec.json.encode(after))


def _effort(tokens: int) -> float:
    return tokens * (1 - ATTENTION_SHARE + ATTENTION_SHARE * tokens / ATTENTION_AT)


def _least(*seconds: float | None) -> float | None:
    return min((value for value in seconds if value is not None), default=None)


def _path(fingerprint: str, hints: str) -> Path:
    name = hashlib.sha256(f"{fingerprint} {hints} {_processor()} {os.cpu_count()}".encode())
    return platformdirs.user_cache_path("vlrun") / "speed" / f"{name.hexdigest()[:32]}.json"


def _processor() -> str:
    with suppress(OSError):
        for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line
    return ""
