"""Formats samples: medians and ranges with units, and the machine's limits."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlrun.bench.ceiling import Ceiling
from vlrun.bench.runner import Samples


@dataclass(frozen=True)
class Figure:
    """Label and unit of a figure. Samples are divided by ``size`` for display."""

    label: str
    unit: str
    size: float = 1.0


FIGURES = {
    "prompt_tokens": Figure("prompt with an image", "tokens"),
    "load": Figure("load", "s"),
    "start_to_text": Figure("process start to first token of a text", "s"),
    "ttft_new": Figure("TTFT, new image", "s"),
    "ttft_again": Figure("TTFT, next question on the same image", "s"),
    "ttft_disk": Figure("TTFT, same image in a new process (cache on disk)", "s"),
    "vision": Figure("vision encoder", "s"),
    "prefill": Figure("prefill", "s"),
    "tpot": Figure("TPOT (decode, per token)", "ms", 1e-3),
    "tokens_per_second_one": Figure("one answer", "tokens/s"),
    "tokens_per_second_four": Figure("four concurrent answers", "tokens/s"),
    "steady": Figure("resident memory at the end", "MiB", 2**20),
    "peak": Figure("resident memory, peak", "MiB", 2**20),
}
"""Figures by their names in the samples. Memory includes mapped files."""


def format_values(figure: Figure, values: Sequence[float]) -> str:
    """Format the median of values with its unit, and their range if there are several."""
    scaled = sorted(value / figure.size for value in values)
    digits = 0 if scaled[-1] >= 100 else 1 if scaled[-1] >= 20 else 2
    spread = f" ({scaled[0]:.{digits}f} to {scaled[-1]:.{digits}f})" if len(scaled) > 1 else ""
    return f"{statistics.median(scaled):,.{digits}f} {figure.unit}{spread}"


def summary(samples: Samples) -> str:
    """Format the medians of all figures in one line."""
    known = ((figure, samples[name]) for name, figure in FIGURES.items() if name in samples)
    return "; ".join(f"{figure.label} {format_values(figure, [statistics.median(values)])}" for figure, values in known)


def table(samples: Samples) -> list[str]:
    """Return a Markdown table of the measured figures, with columns that are aligned in a terminal, too."""
    known = [(figure.label, format_values(figure, samples[n])) for n, figure in FIGURES.items() if n in samples]
    rows = [("figure", "vlrun"), *known]
    left, right = (max(len(row[column]) for row in rows) for column in (0, 1))
    first, *others = (f"| {label:{left}} | {value:{right}} |" for label, value in rows)
    return [first, f"| {'-' * left} | {'-' * right} |", *others]


def conclusion(samples: Samples) -> list[str]:
    """Return what the figures mean for a user, in sentences; of an interrupted run those that are known."""
    medians = {
        name: format_values(FIGURES[name], [statistics.median(values)]) for name, values in samples.items() if values
    }
    sentences = (
        "A question about a new image is answered after {ttft_new}.",
        "The next question about the same image is answered after {ttft_again}.",
        "An answer comes at {tokens_per_second_one}.",
        "vlrun takes {peak} of memory at most.",
    )
    return [text.format(**medians) for text in sentences if text.split("{")[1].split("}")[0] in medians]


def limits(samples: Mapping[str, Sequence[float]], ceilings: Sequence[Ceiling], decoder: Path) -> list[str]:
    """Return the machine's limits as lines of text. Decode reads every weight of ``decoder`` once per token."""
    bandwidth = format_values(Figure("", "GB/s", 1e9), [ceiling.read for ceiling in ceilings])
    rate = Figure("", "GFLOP/s", 1e9)
    flops = ", ".join(
        f"{precision} {format_values(rate, [ceiling.flops[precision] for ceiling in ceilings])}"
        for precision in ceilings[0].flops
    )
    lines = [f"machine: read bandwidth {bandwidth}; matrix products {flops}"]
    if tpot := samples.get("tpot"):
        size = decoder.stat().st_size
        least = size / statistics.median(ceiling.read for ceiling in ceilings)
        share = f"{100 * least / statistics.median(tpot):.0f} % of the limit"
        lines.append(
            f"decode reads {size / 1e9:.2f} GB per token, {least * 1e3:.1f} ms at that bandwidth: it reaches {share}"
        )
    return lines
