"""Autotuning: the search, what it leaves out, its time limit, and what it stores."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import vlrun
from vlrun.backends.openvino import autotune, trial_process
from vlrun.backends.openvino.autotune import Choice, Tuner, choices_for
from vlrun.backends.openvino.device import candidates
from vlrun.backends.openvino.hints import Hints
from vlrun.backends.openvino.trial import Outputs, Seconds, Workload
from vlrun.backends.openvino.trial_process import Deadline, TrialFailed
from vlrun.backends.openvino.tuned import Tuned, load_tuned
from vlrun.cli.commands import commands
from vlrun.embedded import FOLDER
from vlrun.errors import DeviceError, OutputError
from vlrun.models.model_folder import ModelFolder

DEFAULT = Hints(vision_precision="f32", group_size=128)
CHOICES = [
    Choice("vision encoder bf16", {"vision_precision": "bf16"}),
    Choice("decoder bf16", {"decoder_precision": "bf16"}),
    Choice("groups of 256", {"group_size": 256}),
    Choice("groups of 64", {"group_size": 64}),
    Choice("4 threads", {"threads": 4}),
]
LOADING = 5.0


class Machine:
    """A machine with a clock of its own, on which ``seconds`` tells how long a workload takes with certain hints."""

    def __init__(self, seconds: Callable[[Hints], float], monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.now = seconds, 0.0
        self.stray: Callable[[Hints], float] = lambda _: 0.0
        self.not_finite: Callable[[Hints], bool] = lambda _: False
        self.fails: Callable[[Hints], str | None] = lambda _: None
        self.reports: list[str] = []
        self.saved: list[Tuned] = []
        self.open = 0
        monkeypatch.setattr(trial_process, "time", SimpleNamespace(monotonic=lambda: self.now))

    def tune(self, choices: list[Choice] = CHOICES, time_limit: float = 150.0) -> Tuned:
        start = partial(FakeTrial, self)
        return Tuner(start, DEFAULT, time_limit, self.reports.append, self.saved.append).run(choices)


class FakeTrial:
    def __init__(self, machine: Machine, hints: Hints, deadline: Deadline) -> None:
        self.machine, self.hints, self.deadline = machine, hints, deadline
        self.pass_time(LOADING)
        if reason := machine.fails(hints):
            raise TrialFailed(reason)
        machine.open += 1

    def pass_time(self, seconds: float) -> None:
        if seconds >= self.deadline.left:
            self.machine.now += self.deadline.left
            raise TrialFailed("took too long")
        self.machine.now += seconds

    def check(self) -> Outputs:
        exact = self.hints.group_size == 0
        stray = 0.0 if exact else self.machine.stray(self.hints)
        return Outputs([1.0 + stray], [2.0 * (1.0 + stray)], exact or not self.machine.not_finite(self.hints))

    def measure(self, _: Workload) -> Seconds:
        seconds = self.machine.seconds(self.hints)
        self.pass_time(seconds)
        return Seconds(seconds / 3, seconds / 3, seconds / 3)

    def close(self) -> None:
        self.machine.open -= 1


def fastest(decoder: str = "bf16", vision: str = "bf16", group: int = 256, threads: int | None = 4) -> Hints:
    return replace(DEFAULT, decoder_precision=decoder, vision_precision=vision, group_size=group, threads=threads)


def distance(one: Hints, other: Hints) -> int:
    names = ("decoder_precision", "vision_precision", "group_size", "threads")
    return sum(getattr(one, name) != getattr(other, name) for name in names)


def test_the_fastest_choice_of_each_kind_is_kept_and_saved_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a run that saved nothing because it did not reach its end."""
    machine = Machine(lambda hints: 1.0 + 0.3 * distance(hints, fastest()), monkeypatch)
    tuned = machine.tune(time_limit=1000)
    assert tuned.apply(DEFAULT) == fastest()
    assert tuned.seconds < tuned.default_seconds
    assert [saved.apply(DEFAULT) for saved in machine.saved] == [
        replace(DEFAULT, vision_precision="bf16"),
        replace(DEFAULT, vision_precision="bf16", decoder_precision="bf16"),
        replace(fastest(), threads=None),
        fastest(),
        fastest(),
    ]
    assert machine.open == 0
    assert machine.reports[0].startswith("1 of 5: vision encoder bf16: 0.86 x the time of the defaults; at most ")


def test_choices_that_fail_are_reported_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a crash that ended the run, and a precision that was timed although its output was infinite."""
    machine = Machine(lambda hints: 1.0 if hints == DEFAULT else 0.5, monkeypatch)
    machine.fails = lambda hints: {4: "crashed (SIGSEGV)"}.get(hints.threads or 0)
    machine.stray = lambda hints: 0.9 if hints.group_size == 64 else 0.01
    machine.not_finite = lambda hints: hints.vision_precision == "bf16"
    tuned = machine.tune(time_limit=1000)
    assert tuned.apply(DEFAULT) == replace(DEFAULT, decoder_precision="bf16")
    reported = "\n".join(machine.reports)
    assert "vision encoder bf16: left out: the results are not finite" in reported
    assert "groups of 64: left out: the results differ too much from exact ones" in reported
    assert "4 threads: left out: crashed (SIGSEGV)" in reported
    assert machine.open == 0


def test_a_choice_that_hangs_leaves_time_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(lambda hints: 1e9 if hints.vision_precision == "bf16" else 0.5 + (hints == DEFAULT), monkeypatch)
    tuned = machine.tune()
    assert "1 of 5: vision encoder bf16: left out: took too long" in machine.reports
    assert tuned.decoder_precision == "bf16"
    assert machine.now <= 150


@pytest.mark.parametrize("seconds", [0.1, 1.0, 3.0, 10.0])
def test_the_run_ends_within_its_time_limit(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a run of five minutes. What is stored was compared with the defaults at the end."""
    machine = Machine(lambda hints: seconds * (1.0 + distance(hints, fastest())), monkeypatch)
    tuned = machine.tune()
    assert machine.now <= 150
    assert tuned.seconds <= tuned.default_seconds
    assert machine.saved[-1] == tuned
    if tuned.apply(DEFAULT) != DEFAULT:
        assert machine.reports[-1].startswith("the best of these again: ")


def test_too_little_time_for_the_defaults_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="the default settings do not work: took too long"):
        Machine(lambda _: 60.0, monkeypatch).tune(time_limit=30)
    machine = Machine(lambda _: 1.0, monkeypatch)
    machine.stray = lambda _: 0.9
    with pytest.raises(DeviceError, match="their results differ too much from exact ones"):
        machine.tune()
    assert machine.open == 0


def test_an_interrupted_run_keeps_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(hints: Hints) -> float:
        if hints.decoder_precision == "bf16":
            raise KeyboardInterrupt
        return 1.0 + (hints == DEFAULT)

    machine = Machine(seconds, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        machine.tune()
    assert [saved.apply(DEFAULT) for saved in machine.saved] == [replace(DEFAULT, vision_precision="bf16")]
    assert machine.open == 0


def test_a_gain_that_does_not_repeat_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fast once and is slower than the defaults at the end is not kept."""
    machine = Machine(lambda _: 1.0, monkeypatch)

    def seconds(hints: Hints) -> float:
        lucky = hints.vision_precision == "bf16" and not machine.saved
        return 0.5 if lucky else 1.0 + 0.02 * (hints != DEFAULT)

    machine.seconds = seconds
    assert machine.tune().apply(DEFAULT) == DEFAULT
    assert machine.saved[-1].apply(DEFAULT) == DEFAULT


@pytest.mark.parametrize("seed", range(20))
def test_other_load_does_not_make_a_slower_choice_win(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is up to four times slower for some time, and each measurement is up to 2 % off."""
    rng = random.Random(seed)
    busy = [rng.uniform(1, 4) for _ in range(10)]
    true = {choice.label: rng.choice((0.7, 0.9, 1.0, 1.2)) for choice in CHOICES}

    def factor(hints: Hints) -> float:
        product = 1.0
        for choice in CHOICES:
            if all(getattr(hints, name) == value for name, value in choice.change.items()):
                product *= true[choice.label]
        return product

    machine = Machine(lambda _: 1.0, monkeypatch)
    machine.seconds = lambda hints: factor(hints) * busy[int(machine.now / 20) % 10] * rng.uniform(1, 1.02)
    assert factor(machine.tune().apply(DEFAULT)) <= 1.0


def test_a_gain_within_the_noise_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against properties that won although the plugin ignores them: 6 % in rounds that differ by 12 %."""
    factors = cycle([0.88, 1.0, 0.94])
    machine = Machine(lambda _: 1.0, monkeypatch)
    machine.seconds = lambda hints: 1.0 if hints == DEFAULT else next(factors)
    assert machine.tune(CHOICES[:1]).apply(DEFAULT) == DEFAULT


def test_only_choices_that_work_are_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards against f16 on a CPU: its decoder crashes with dynamic quantization, its vision encoder overflows."""
    (tmp_path / "siblings").write_text("0-1\n")
    monkeypatch.setattr(autotune, "SIBLINGS", tmp_path / "siblings")
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    capable = ["FP32", "FP16", "BF16", "INT8"]
    monkeypatch.setattr("openvino.Core", lambda: SimpleNamespace(get_property=lambda *_: capable))
    monkeypatch.setattr(autotune, "can_quantize", lambda: True)
    on_cpu = [choice.label for choice in choices_for(DEFAULT)]
    assert on_cpu == ["vision encoder bf16", "decoder bf16", "groups of 256", "groups of 64", "4 threads"]
    on_gpu = [choice.label for choice in choices_for(replace(DEFAULT, device="GPU"))]
    assert on_gpu == ["vision encoder f16", "decoder f16", "groups of 256", "groups of 64"]
    capable.clear()
    monkeypatch.setattr(autotune, "can_quantize", lambda: False)
    (tmp_path / "siblings").write_text("0\n")
    assert choices_for(DEFAULT) == []


@pytest.mark.parametrize("device", ["gpu.77", "npu", "xyz"])
def test_a_device_that_does_not_exist_is_refused(device: str) -> None:
    """Guards an internal error of a machine without a GPU."""
    run = CliRunner().invoke(commands, ["tune", "--model", str(FOLDER), "--device", device], standalone_mode=False)
    assert isinstance(run.exception, DeviceError)
    assert device.upper() in str(run.exception)
    assert not run.output


def test_auto_tunes_the_device_that_other_commands_try_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--device auto`` was refused: "there is no device 'AUTO'"."""
    devices = []

    def tune(_: object, device: str, *given: Any) -> Tuned:
        devices.append(device)
        return Tuned("f32", "f32", 128, None, 1.0, 2.0)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(autotune, "tune", tune)
    run = CliRunner().invoke(commands, ["tune", "--model", str(FOLDER), "--device", "auto"])
    assert devices == [candidates(Hints(device="AUTO"))[0].device]
    assert run.stderr == f"vlrun: device AUTO: tuning for {devices[0]}\n"


def test_a_result_that_cannot_be_stored_is_still_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against minutes of measuring that end with nothing but an error."""

    def tune(*given: Any) -> Tuned:
        given[-1](tuned := Tuned("f32", "f32", 128, None, 1.0, 2.0))
        return tuned

    (tmp_path / "vlrun").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(autotune, "tune", tune)
    run = CliRunner().invoke(commands, ["tune", "--model", str(FOLDER)])
    assert run.stdout.endswith(": 1.00 s, with the defaults 2.00 s\n")
    assert isinstance(run.exception, OutputError)


@pytest.mark.parametrize("device", ["GPU", "GPU.3", "gpu", "NPU", "HETERO:CPU", "nonsense"])
def test_a_device_that_cannot_be_tuned_is_told_before_anything_runs(device: str) -> None:
    """Without a GPU driver, OpenVINO's message about a library that it cannot load was an internal error."""
    run = CliRunner().invoke(commands, ["tune", "--model", str(FOLDER), "--device", device])
    assert isinstance(run.exception, DeviceError)
    assert str(run.exception).startswith(("there is no device", "vlrun cannot use the NPU"))
    assert not run.stderr


@pytest.mark.slow
def test_vlrun_tune_stores_a_result_that_the_next_load_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real processes measure the defaults; the other choices differ between machines."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(autotune, "choices_for", lambda _: [])
    run = CliRunner().invoke(commands, ["tune", "--model", str(FOLDER), "--time-limit", "120"])
    assert run.exit_code == 0, run.output
    assert run.stderr.startswith("defaults: decoder f32, ")
    assert run.stderr.endswith("there is nothing else to choose on this machine\n")
    tuned = load_tuned(ModelFolder(FOLDER).fingerprint, "CPU")
    assert tuned is not None
    assert f": {tuned.seconds:.2f} s, with the defaults {tuned.default_seconds:.2f} s" in run.stdout
    with vlrun.load() as vlm:
        assert vlm.settings == f"{tuned.apply(Hints()).describe()} (found by vlrun tune)"
        assert vlm.ask([], "Hi", vlrun.Options(max_tokens=2)).usage.completion_tokens
