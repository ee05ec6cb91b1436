"""The probe of the CPU: what it chooses from measured times, and when it measures again."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import pytest

from vlrun.backends.openvino import precision_probe
from vlrun.backends.openvino.hints import Hints
from vlrun.backends.openvino.precision_probe import (
    MAX_AGE_SECONDS,
    REPEAT_SECONDS,
    Choice,
    Measurement,
    choose_properties,
    measure,
    probe_cpu,
)

XEON_WITHOUT_AMX = {"f32/128": 1 / 182, "bf16/128": 1 / 108, "f32/256": 1 / 182, "f32/64": 1 / 170}
"""Seconds of the products of a CPU with AVX-512 BF16 but without AMX, on which bf16 is slower."""
XEON_WITH_AMX = {"f32/128": 0.010, "bf16/128": 0.006, "f32/256": 0.0095, "f32/64": 0.011}
CHOICES: list[Choice] = [("f32", 128), ("bf16", 128), ("f32", 256), ("f32", 64)]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    probe_cpu.cache_clear()
    yield tmp_path
    probe_cpu.cache_clear()


@pytest.fixture
def capable(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str], str], None]:
    """Set what OpenVINO and Linux say about the CPU."""

    def set_cpu(capabilities: Sequence[str], flags: str) -> None:
        def properties(_: str, name: str) -> object:
            return capabilities if name == "OPTIMIZATION_CAPABILITIES" else "a CPU"

        monkeypatch.setattr("openvino.Core", lambda: SimpleNamespace(get_property=properties))
        monkeypatch.setattr(precision_probe, "_cpu_flags", lambda: frozenset(flags.split()))

    return set_cpu


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Measurement]:
    """Replace the measurement by given ones; the last is left when all were used."""
    given: list[Measurement] = []

    def next_measurement(choices: Sequence[Choice], _: int | None) -> Measurement:
        assert list(choices) == CHOICES
        return given.pop(0) if len(given) > 1 else given[0]

    monkeypatch.setattr(precision_probe, "measure", next_measurement)
    return given


def rounds(seconds: Mapping[str, float], noise: Callable[[], float], count: int = 7) -> Measurement:
    """Return a measurement in which each time is multiplied by noise."""
    times: dict[str, list[float]] = {name: [] for name in seconds}
    for _ in range(count):
        for name, value in seconds.items():
            times[name].append(value * noise())
    return Measurement.of(times, start=1e9)


def chosen(measurement: Measurement) -> tuple[str, int]:
    probe = measurement.choice()
    assert probe is not None
    return probe.precision, probe.group_size


@pytest.mark.parametrize(
    ("seconds", "choice"),
    [
        (XEON_WITHOUT_AMX, ("f32", 128)),
        (XEON_WITH_AMX, ("bf16", 128)),
        ({"f32/128": 1.0, "bf16/128": 0.95, "f32/256": 0.95, "f32/64": 0.95}, ("f32", 128)),
        ({"f32/128": 1.0, "bf16/128": 1.5, "f32/256": 0.8, "f32/64": 0.85}, ("f32", 256)),
        ({"f32/128": 1.0, "f32/256": 1.0, "f32/64": 1.0}, ("f32", 128)),
        ({"f32/128": 1.0}, ("f32", 128)),
    ],
)
def test_the_faster_precision_wins_and_f32_if_they_are_close(seconds: Mapping[str, float], choice: Choice) -> None:
    """Guards against bf16 on CPUs that have its instructions but no matrix units, where f32 is faster and exact."""
    assert chosen(rounds(seconds, lambda: 1.0)) == choice


@pytest.mark.parametrize("seed", range(40))
def test_a_busy_moment_does_not_decide(seed: int) -> None:
    """Other load makes some runs up to ten times slower; equal choices never win over the default by it."""
    rng = random.Random(seed)

    def busy() -> float:
        return rng.uniform(3, 10) if rng.random() < rng.choice((0.1, 0.4, 0.8)) else rng.uniform(1, 1.05)

    assert chosen(rounds(XEON_WITHOUT_AMX, busy))[0] == "f32"
    assert chosen(rounds(dict.fromkeys(XEON_WITH_AMX, 0.01), lambda: rng.uniform(1, 1.1))) == ("f32", 128)


def test_a_disturbed_measurement_is_repeated_later(
    capable: Callable[[Sequence[str], str], None], measured: list[Measurement], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no moment decides for ever; an undisturbed one counts for months."""
    capable(["FP32", "BF16", "INT8"], "avx512_vnni")
    noise = cycle([5.0] * len(CHOICES) + [1.0] * len(CHOICES))
    disturbed = rounds(XEON_WITHOUT_AMX, lambda: next(noise))
    assert disturbed.disturbed
    measured += [disturbed, rounds(XEON_WITH_AMX, lambda: 1.0)]

    def probed_at(seconds: float) -> str:
        probe_cpu.cache_clear()
        monkeypatch.setattr("time.time", lambda: 1e9 + seconds)
        return choose_properties(Hints())[0].vision_precision or ""

    assert probed_at(0) == "f32"
    assert probed_at(REPEAT_SECONDS - 1) == "f32"
    assert len(measured) == 1
    assert probed_at(REPEAT_SECONDS + 1) == "bf16"
    measured[:] = [rounds(XEON_WITHOUT_AMX, lambda: 1.0)]
    assert probed_at(REPEAT_SECONDS * 3) == "bf16"
    assert probed_at(MAX_AGE_SECONDS * 2) == "f32"


def test_given_hints_are_kept(capable: Callable[[Sequence[str], str], None], measured: list[Measurement]) -> None:
    capable(["FP32", "BF16", "INT8"], "avx_vnni")
    measured.append(rounds({"f32/128": 1.0, "bf16/128": 0.5, "f32/256": 0.5, "f32/64": 1.0}, lambda: 1.0))
    probed, reason = choose_properties(Hints())
    assert (probed.vision_precision, probed.group_size) == ("bf16", 256)
    assert reason.startswith("measured f32/128 1000.0 ms, bf16/128 500.0 ms, ")
    given = Hints(vision_precision="f32", group_size=32)
    assert choose_properties(given) == (given, "")
    assert choose_properties(Hints(vision_precision="f32"))[0] == Hints(vision_precision="f32", group_size=256)
    assert choose_properties(Hints(group_size=0))[0] == Hints(vision_precision="bf16", group_size=0)
    f16 = choose_properties(Hints(decoder_precision="f16"))[0]
    assert f16.decoder_config()["DYNAMIC_QUANTIZATION_GROUP_SIZE"] == "0"


def test_a_cpu_without_a_choice_is_not_measured(
    capable: Callable[[Sequence[str], str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision_probe, "measure", lambda *_: pytest.fail("measured"))
    capable(["FP32", "INT8"], "avx2 fma")
    assert choose_properties(Hints()) == (Hints(vision_precision="f32", group_size=128), "this CPU has only f32")


def test_a_cache_that_is_damaged_or_not_writable_is_no_problem(
    capable: Callable[[Sequence[str], str], None], measured: list[Measurement], cache_folder: Path
) -> None:
    capable(["FP32", "BF16", "INT8"], "avx512_vnni")
    measured.append(rounds(XEON_WITHOUT_AMX, lambda: 1.0))
    chosen = choose_properties(Hints())
    assert chosen[0].vision_precision == "f32"
    (file,) = (cache_folder / "vlrun" / "probed").iterdir()
    for content in (b"", b'{"seconds": 1}', b'{"x":' + b"[" * 50_000):
        file.write_bytes(content)
        probe_cpu.cache_clear()
        assert choose_properties(Hints()) == chosen
    file.unlink()
    os.mkfifo(file)  # a plain read would wait for ever
    probe_cpu.cache_clear()
    assert choose_properties(Hints())[0].vision_precision == "f32"
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("a file where a folder should be")
    probe_cpu.cache_clear()
    assert choose_properties(Hints())[0].vision_precision == "f32"


@pytest.mark.slow
def test_this_machine_is_measured() -> None:
    """Every choice runs and gives nearly the same output, whatever the CPU has."""
    measurement = measure(CHOICES, None)
    assert set(measurement.seconds) == set(measurement.ratios) == {"f32/128", "bf16/128", "f32/256", "f32/64"}
    assert measurement.choice() is not None
    assert choose_properties(Hints())[0].vision_precision in {"f32", "bf16"}


@pytest.mark.slow
def test_what_fails_or_gives_other_results_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the default choice, nothing is chosen."""
    monkeypatch.setattr(precision_probe, "MAX_ERROR", -1.0)
    assert measure(CHOICES[:1], None).choice() is None
