"""Tables of samples: units, medians, ranges and limits."""

from __future__ import annotations

from vlrun.bench.ceiling import Ceiling
from vlrun.bench.report import conclusion, limits, summary, table
from vlrun.bench.runner import Samples
from vlrun.embedded import FOLDER

SAMPLES: Samples = {"tpot": [0.050, 0.052, 0.090], "peak": [2**30]}


def test_table_has_medians_with_their_ranges() -> None:
    assert table(SAMPLES)[2:] == [
        "| TPOT (decode, per token) | 52.0 ms (50.0 to 90.0) |",
        "| resident memory, peak    | 1,024 MiB              |",
    ]


def test_the_conclusion_is_in_sentences_about_what_was_measured() -> None:
    assert conclusion(SAMPLES | {"ttft_new": [6.3, 6.5], "ttft_again": [0.1]}) == [
        "A question about a new image is answered after 6.40 s.",
        "The next question about the same image is answered after 0.10 s.",
        "vlrun takes 1,024 MiB of memory at most.",
    ]
    assert conclusion({}) == []


def test_summary_is_one_line_of_medians() -> None:
    assert summary(SAMPLES) == "TPOT (decode, per token) 52.0 ms; resident memory, peak 1,024 MiB"
    assert summary({}) == ""


def test_limits_compare_decode_with_bandwidth() -> None:
    decoder = FOLDER / "decoder.bin"
    ceilings = [Ceiling(decoder.stat().st_size / 0.026, {"f32": 2e9})] * 2
    lines = limits(SAMPLES, ceilings, decoder)
    assert "f32 2.00 GFLOP/s (2.00 to 2.00)" in lines[0]
    assert lines[1].endswith("26.0 ms at that bandwidth: it reaches 50 % of the limit")
    assert len(limits({}, ceilings, decoder)) == 1  # an interrupted run may have no TPOT yet
