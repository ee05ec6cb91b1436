"""Participants in turn, their samples side by side, goals beside them. Knows processes and numbers, no models."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlrun.bench import ceiling
from vlrun.bench.ceiling import Ceiling
from vlrun.errors import DeviceError

FIGURES = {
    "prompt_tokens": ("tokens of the prompt with an image", 1.0, "tokens"),
    "load": ("load", 1.0, "s"),
    "start_to_text": ("start of process to first token of a text", 1.0, "s"),
    "ttft_new": ("TTFT, new image", 1.0, "s"),
    "ttft_again": ("TTFT, next question on the same image", 1.0, "s"),
    "ttft_disk": ("the same in a new process, from disk", 1.0, "s"),
    "vision": ("vision encoder", 1.0, "s"),
    "prefill": ("prefill", 1.0, "s"),
    "tpot": ("decode, per token", 1e-3, "ms"),
    "tokens_per_second_one": ("one answer", 1.0, "tokens/s"),
    "tokens_per_second_four": ("four answers at once", 1.0, "tokens/s"),
    "steady": ("resident memory after all this", 2**20, "MiB"),
    "peak": ("resident memory at the peak", 2**20, "MiB"),
}
"""Name in the samples: words, unit size, unit. Memory counts mapped files too."""


@dataclass(frozen=True)
class Participant:
    """Someone who runs the course: a name, and the module with its arguments, as Python is given them. ``parts``: what
    is added to them, for one process after the other; ``once``: in the first turn alone, being slow.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[tuple[str, ...], ...] = ((),)
    once: bool = False


Samples = dict[str, list[float]]


@dataclass(frozen=True)
class Found:
    """Every participant's samples by name, the machine's ceiling as it was before each of them, and who failed."""

    samples: dict[str, Samples]
    ceilings: list[Ceiling]
    failed: list[str]


def run(participants: Sequence[Participant], turns: int, tell: Callable[[str], None]) -> Found:
    """Let all take part, in turn, so that a change of the machine's mood meets them all."""
    found = Found({participant.name: {} for participant in participants}, [], [])
    for turn in range(turns):
        for participant in participants:
            if turn and participant.once:
                continue
            tell(f"turn {turn + 1} of {turns}: {participant.name}")
            found.ceilings.append(ceiling.measure())
            try:
                samples = course(participant)
            except DeviceError as error:  # the others' figures must not be lost
                tell(str(error))
                found.failed.append(participant.name)
                continue
            for name, values in samples.items():
                found.samples[participant.name].setdefault(name, []).extend(values)
    return found


def course(participant: Participant) -> Samples:
    """The samples of one turn. Raises DeviceError with the end of what it said if it failed."""
    samples: Samples = {}
    with tempfile.TemporaryDirectory() as cache:
        for part in participant.parts:
            own = {"XDG_CACHE_HOME": cache} if {"keep", "disk"} & set(part) else {}
            command = [sys.executable, "-m", *participant.command, *part, "--began", str(time.time())]
            environment = {**os.environ, **participant.environment, **own}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            try:
                found = json.loads(done.stdout.strip().splitlines()[-1]) if not done.returncode else None
            except (ValueError, IndexError):
                found = None
            if not isinstance(found, dict):
                said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
                raise DeviceError(f"{participant.name} failed, its last words: {said[0]}")
            samples |= found
    return samples


def table(found: Mapping[str, Samples]) -> list[str]:
    """A Markdown table: medians with the spread, and of peers the part of it that the first one takes."""
    names = list(found)
    heads = [names[0], *(f"{name} | of it" for name in names[1:])]
    lines = ["| figure | " + " | ".join(heads) + " |"]
    lines.append("|" + " --- |" * (1 + len(names) + len(names) - 1))
    for figure, (words, size, unit) in FIGURES.items():
        if figure in found[names[0]]:
            cells = [_cell(found[names[0]][figure], size, unit)]
            for name in names[1:]:
                values = found[name].get(figure)
                cells += [_cell(values, size, unit), _ratio(found[names[0]][figure], values)] if values else ["", ""]
            lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return lines


def limits(samples: Samples, ceilings: Sequence[Ceiling], decoder: Path) -> list[str]:
    """What the machine allows, in words: decode reads every weight once a token. Medians, smallest and largest."""
    flops = ", ".join(
        f"{_cell([ceiling.flops[name] for ceiling in ceilings], 1e9, 'GFLOP/s')} in {name}"
        for name in ceilings[0].flops
    )
    size, tpot = decoder.stat().st_size, statistics.median(samples.get("tpot", [float("nan")]))
    least = size / statistics.median(ceiling.read for ceiling in ceilings)
    share = f"{least * 1e3:.1f} ms at that bandwidth: {100 * least / tpot:.0f} % of the limit"
    return [
        f"read bandwidth {_cell([ceiling.read for ceiling in ceilings], 1e9, 'GB/s')}; matrix products {flops}",
        f"decode reads {size / 1e9:.2f} GB a token, {share}",
    ]


def _cell(values: Sequence[float], size: float, unit: str) -> str:
    scaled = sorted(value / size for value in values)
    digits = 0 if scaled[-1] >= 100 else 1 if scaled[-1] >= 20 else 2
    spread = f" ({scaled[0]:.{digits}f} to {scaled[-1]:.{digits}f})" if len(scaled) > 1 else ""
    return f"{statistics.median(scaled):,.{digits}f} {unit}{spread}"


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    least = statistics.median(theirs)
    return f"{statistics.median(ours) / least:.2f}" if least else ""
