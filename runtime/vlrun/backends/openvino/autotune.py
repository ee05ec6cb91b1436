"""Autotuning: measure which OpenVINO properties are fastest on this machine, and store them.

Each choice runs in a process of its own beside one with the defaults. The two take turns, so that other load hits both,
and their outputs are compared with exact ones. A choice that crashes, takes too long or gives other
results is left out.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import openvino as ov

from vlrun.backends.cpu_info import count_threads
from vlrun.backends.openvino.backend import choose_hints
from vlrun.backends.openvino.device import check_available
from vlrun.backends.openvino.hints import Hints, is_cpu
from vlrun.backends.openvino.precision_probe import can_quantize, relative_error
from vlrun.backends.openvino.trial import Outputs, Seconds, Workload
from vlrun.backends.openvino.trial_process import Deadline, TrialFailed, TrialLike, TrialProcess
from vlrun.backends.openvino.tuned import Tuned
from vlrun.errors import DeviceError
from vlrun.models.model_folder import ModelFolder
from vlrun.vision.cost import relative_cost

REQUEST = Workload(tokens=784, steps=64, side=56)
"""The request to tune for: a question about an image of about 1024 x 768, and its answer."""
WORKLOADS = (Workload(32, 4, 16), Workload(64, 6, 24), Workload(128, 6, 32), Workload(256, 8, 40))
"""What is timed, from which the time of the request is estimated: the largest that there is time for."""
MEASURES = 40
"""Workloads that fit into the time limit; they leave time for loading."""
ROUNDS = 3
"""Times that a choice and the defaults take turns."""
MIN_GAIN = 0.03
"""Share of the time that other properties must save at least to replace the best so far."""
HOPELESS = 1.1
"""A choice that takes this many times as long as the defaults gets no further round."""
TRIAL_FACTOR, MIN_TRIAL_SECONDS = 3.0, 10.0
"""A trial is given up after this many times its expected time, so that one that hangs leaves time for others."""
MAX_ERROR, ERROR_FACTOR = 0.2, 2.0
"""Relative error of outputs that is accepted: this much, or this many times that of the defaults."""
MAX_DEFAULT_ERROR = 0.5
"""Relative error of the defaults above which the device is broken."""
GROUP_SIZES = (256, 64)
CAPABILITIES = {"bf16": "BF16", "f16": "FP16"}
"""OpenVINO's names of what a device is capable of."""
SIBLINGS = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")

StartTrial: TypeAlias = Callable[[Hints, Deadline], TrialLike]


@dataclass(frozen=True)
class Choice:
    """A change of the best hints so far."""

    label: str
    change: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """The estimated seconds of the request with a choice and with the defaults, round by round."""

    choice: Sequence[float]
    default: Sequence[float]

    @property
    def ratio(self) -> float:
        """Time relative to the defaults: by the shortest times or by the median round, whichever is worse."""
        return max(min(self.choice) / min(self.default), statistics.median(self._rounds))

    @property
    def needed_gain(self) -> float:
        """Share of the time that must be saved: more than the rounds differ from each other."""
        return max(MIN_GAIN, max(self._rounds) - min(self._rounds))

    @property
    def _rounds(self) -> list[float]:
        return [mine / other for mine, other in zip(self.choice, self.default, strict=True)]

    def tuned(self, hints: Hints) -> Tuned:
        """Return the result to store."""
        return Tuned.of(hints, min(self.choice), min(self.default))


class Tuner:
    """Looks for the fastest properties.

    Args:
        start: Starts a trial; raises TrialFailed.
        default: The hints that are used without tuning.
        time_limit: Seconds.
        report: Gets a line for each choice.
        save: Stores the best result so far.
    """

    def __init__(
        self,
        start: StartTrial,
        default: Hints,
        time_limit: float,
        report: Callable[[str], None],
        save: Callable[[Tuned], None],
    ) -> None:
        self._start, self._default, self._report, self._save = start, default, report, save
        self._time_limit, self._deadline = time_limit, Deadline(time_limit)

    def run(self, choices: Sequence[Choice]) -> Tuned:
        """Return the fastest properties that were found within the time limit; they are stored, too.

        Raises DeviceError if not even the defaults work, or there is no time for them.
        """
        exact = replace(self._default, decoder_precision="f32", vision_precision="f32", group_size=0)
        try:
            with closing(self._start(exact, self._deadline)) as trial:
                self._reference = trial.check()
            began = self._deadline.left
            with closing(self._start(self._default, self._deadline)) as trial:
                self._beside = trial
                self._limits = self._check_defaults(trial.check())
                loading = began - self._deadline.left
                self._workload, seconds = self._choose_workload()
                measuring = seconds.prefill + seconds.decode * self._workload.steps + seconds.vision
                self._trial_seconds = loading + (2 * ROUNDS + 1) * measuring
                return self._search(choices, request_seconds(seconds, self._workload))
        except TrialFailed as failure:
            raise DeviceError(f"cannot tune, because the default settings do not work: {failure}") from failure

    def _search(self, choices: Sequence[Choice], seconds: float) -> Tuned:
        best, best_ratio, defaults = self._default, 1.0, Tuned.of(self._default, seconds, seconds)
        for number, choice in enumerate(choices, 1):
            hints = replace(best, **choice.change)
            if hints == best:
                continue
            if self._deadline.left < 2 * self._trial_seconds:  # this trial, and the last one
                self._report(f"no time for the other {len(choices) - number + 1} choices")
                break
            compared = self._compare(f"{number} of {len(choices)}: {choice.label}", hints)
            if compared is not None and compared.ratio <= best_ratio * (1 - compared.needed_gain):
                best, best_ratio = hints, compared.ratio
                self._save(compared.tuned(best))
        found = defaults
        if best != self._default:
            compared = self._compare("the best of these again", best)
            if compared is not None and compared.ratio <= 1:
                found = compared.tuned(best)
        self._save(found)
        return found

    def _compare(self, label: str, hints: Hints) -> Comparison | None:
        """Let a choice and the defaults take turns; return None if the choice does not work."""
        limit = min(self._deadline.left, max(MIN_TRIAL_SECONDS, TRIAL_FACTOR * self._trial_seconds))
        try:
            with closing(self._start(hints, Deadline(limit))) as trial:
                if problem := self._problem(trial.check()):
                    self._report(f"{label}: left out: {problem}")
                    return None
                self._seconds(trial)  # reaches its speed with the second one
                compared = Comparison([], [])
                for _ in range(ROUNDS):
                    default, choice = self._seconds(self._beside), self._seconds(trial)
                    compared = Comparison([*compared.choice, choice], [*compared.default, default])
                    if compared.ratio > HOPELESS:
                        break
        except TrialFailed as failure:
            self._report(f"{label}: left out: {failure}")
            return None
        left = f"at most {self._deadline.left:.0f} s left"
        self._report(f"{label}: {compared.ratio:.2f} x the time of the defaults; {left}")
        return compared

    def _seconds(self, trial: TrialLike) -> float:
        return request_seconds(trial.measure(self._workload), self._workload)

    def _choose_workload(self) -> tuple[Workload, Seconds]:
        """Return the largest workload that can be measured often enough, and its seconds with the defaults."""
        chosen, seconds = WORKLOADS[0], self._beside.measure(WORKLOADS[0])
        for larger in WORKLOADS[1:]:
            prefill, vision = seconds.prefill * larger.tokens / chosen.tokens, _vision_seconds(seconds, chosen, larger)
            if prefill + vision + seconds.decode * larger.steps > self._time_limit / MEASURES:
                break
            chosen, seconds = larger, self._beside.measure(larger)
        return chosen, seconds

    def _check_defaults(self, outputs: Outputs) -> tuple[float, float]:
        """Return the errors that are accepted. Raises TrialFailed if those of the defaults are too large."""
        found = output_errors(outputs, self._reference)
        if max(found) > MAX_DEFAULT_ERROR:
            raise TrialFailed("their results differ too much from exact ones")
        logits, features = (max(MAX_ERROR, ERROR_FACTOR * error) for error in found)
        return logits, features

    def _problem(self, outputs: Outputs) -> str | None:
        """Return what is wrong with the outputs of a choice."""
        if not outputs.finite:
            return "the results are not finite"
        errors = output_errors(outputs, self._reference)
        if any(error > limit for error, limit in zip(errors, self._limits, strict=True)):
            return "the results differ too much from exact ones"
        return None


def tune(
    folder: ModelFolder,
    device: str,
    time_limit: float,
    report: Callable[[str], None],
    save: Callable[[Tuned], None],
) -> Tuned:
    """Measure one choice after another, and return the fastest.

    Args:
        folder: The model folder.
        device: CPU or GPU.
        time_limit: Seconds after which the best result so far is taken.
        report: Gets a line for each choice.
        save: Gets the best result so far, and what is returned.

    Raises:
        DeviceError: There is no such device, nothing runs on it, or there is not enough time.
    """
    check_available(ov.Core(), device)
    default, reason = choose_hints(folder, Hints(device=device), use_tuned=False)
    report(f"defaults: {default.describe()}{reason and f' ({reason})'}")
    choices = choices_for(default)
    if not choices:
        report("there is nothing else to choose on this machine")

    def start(hints: Hints, deadline: Deadline) -> TrialLike:
        return TrialProcess(Path(folder.name), hints, deadline)

    return Tuner(start, default, time_limit, report, save).run(choices)


def choices_for(default: Hints) -> list[Choice]:
    """Return what to try on a device; not what is known to crash or to give wrong results there."""
    capabilities = ov.Core().get_property(default.device, "OPTIMIZATION_CAPABILITIES")
    on_cpu = is_cpu(default.device)
    reduced = "bf16" if on_cpu else "f16"  # f16 overflows in the CPU's vision encoder and crashes its decoder
    precisions = ["f32", *([reduced] if CAPABILITIES[reduced] in capabilities else [])]
    choices = [Choice(f"vision encoder {name}", {"vision_precision": name}) for name in precisions]
    choices += [Choice(f"decoder {name}", {"decoder_precision": name}) for name in precisions]
    if not on_cpu or can_quantize():
        choices += [Choice(f"groups of {size}", {"group_size": size}) for size in GROUP_SIZES]
    choices += [Choice(count_threads(threads), {"threads": threads}) for threads in _thread_choices() if on_cpu]
    return [choice for choice in choices if replace(default, **choice.change) != default]


def request_seconds(measured: Seconds, workload: Workload) -> float:
    """Estimate the seconds of ``REQUEST`` from those of a workload."""
    prefill = measured.prefill * REQUEST.tokens / workload.tokens
    return prefill + measured.decode * REQUEST.steps + _vision_seconds(measured, workload, REQUEST)


def output_errors(outputs: Outputs, reference: Outputs) -> tuple[float, float]:
    """Return the relative errors of logits and features; infinity if a value is not finite."""
    if not (outputs.finite and reference.finite):
        return np.inf, np.inf
    pairs = ((outputs.logits, reference.logits), (outputs.features, reference.features))
    logits, features = (relative_error(np.array(ours), np.array(exact)) for ours, exact in pairs)
    return logits, features


def _vision_seconds(measured: Seconds, workload: Workload, other: Workload) -> float:
    return measured.vision * relative_cost(other.side**2 // 4) / relative_cost(workload.side**2 // 4)


def _thread_choices() -> list[int]:
    """Return half of the CPU's threads if two of them share a core, else nothing."""
    with suppress(OSError):
        return [] if SIBLINGS.read_text(encoding="ascii").strip() == "0" else [max(1, (os.cpu_count() or 2) // 2)]
    return []
