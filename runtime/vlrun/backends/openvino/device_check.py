"""Checks a GPU against the CPU before it is trusted: plugins and drivers have given wrong results without an error.

At the first load on a device, the probe's results are compared with the CPU's. Where they differ, other settings are
tried: static shapes, then f32. What was measured is stored as JSON and used until the driver, OpenVINO or the model
changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from vlrun.backends.openvino.device_probe import DeviceProbe, ProbeResult, similarity
from vlrun.backends.openvino.hints import Hints
from vlrun.engine.backend import Decoder
from vlrun.errors import DeviceError, OptionError, UnreliableDevice, reason_of
from vlrun.storage import files
from vlrun.storage.regular_files import read_regular
from vlrun.vision.vision_encoder import VisionEncoder

T = TypeVar("T")
EncoderT = TypeVar("EncoderT", bound=VisionEncoder)
DecoderT = TypeVar("DecoderT", bound=Decoder)

CHECK_VERSION = 1
"""Raise it when the probe or its limit changes: devices are checked again."""
MIN_SIMILARITY = 0.98
"""Lowest correlation with the CPU's results that is rounding. Right results at f16 with 8-bit caches and activations
reach 0.996 and more; the faults seen in plugins, 0.15 and less."""
MAX_BYTES = 1 << 20
"""Limit of a stored verdict, which has a few kilobytes."""
VISION, DECODER = "vision encoder", "decoder"


@dataclass(frozen=True)
class Setting:
    """A way to run one part of the model on the device.

    Attributes:
        words: Its name in messages.
        hints: Properties.
        static: Whether the vision encoder is compiled for each number of patches.
    """

    words: str
    hints: Hints
    static: bool = False


class Trial(msgspec.Struct, frozen=True):
    """The result of one part of the model with one setting."""

    part: str
    setting: str
    words: str
    similarity: float
    agrees: bool


class Verdict(msgspec.Struct, frozen=True):
    """What is known of a device with a model, as it is stored."""

    device: str
    runtime: str
    model: str
    trials: tuple[Trial, ...] = ()

    @property
    def path_name(self) -> str:
        """File name: a hash of everything that makes a new check necessary."""
        key = f"{CHECK_VERSION} {MIN_SIMILARITY} {self.device} {self.runtime} {self.model}"
        return f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def vision_settings(hints: Hints) -> list[Setting]:
    """Return the settings of the vision encoder to try in order."""
    exact = replace(hints, vision_precision="f32")
    return _without_repeats(
        [
            Setting("with the given settings", hints),
            Setting("with static shapes", hints, static=True),
            Setting("in f32", exact),
            Setting("in f32 with static shapes", exact, static=True),
        ]
    )


def decoder_settings(hints: Hints) -> list[Setting]:
    """Return the settings of the decoder to try in order; PagedAttention has no static shapes."""
    exact = replace(hints, decoder_precision="f32")
    return _without_repeats([Setting("with the given settings", hints), Setting("in f32", exact)])


def _without_repeats(settings: Sequence[Setting]) -> list[Setting]:
    return list({(setting.hints, setting.static): setting for setting in reversed(settings)}.values())[::-1]


class DeviceCheck:
    """Opens the parts of a model on a device with the first setting whose results agree with the CPU's.

    Args:
        name: Device name, for messages.
        verdict: The device, what runs on it and the model, without trials.
        folder: Folder of stored verdicts; None stores nothing, because a change could not be noticed.
        probe: The probe's inputs.
        reference: Computes the CPU's results.
    """

    def __init__(
        self,
        name: str,
        verdict: Verdict,
        folder: Path | None,
        probe: DeviceProbe,
        reference: Callable[[], ProbeResult],
    ) -> None:
        self._name, self._folder, self._probe, self._compute = name, folder, probe, reference
        self._verdict = self._load(verdict)
        self._reference: ProbeResult | None = None
        self._reference_lock, self._lock = threading.Lock(), threading.Lock()
        self._chosen: dict[str, Setting] = {}
        self._notes: dict[str, str] = {}

    @property
    def settings(self) -> str:
        """The chosen settings, which affect results."""
        return str(sorted((part, str(setting)) for part, setting in self._chosen.items()))

    @property
    def changes(self) -> tuple[str, ...]:
        """The settings that differ from the given ones, as phrases for users."""
        return tuple(f"{part} {self._chosen[part].words}" for part in sorted(self._notes))

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages about settings that differ from the given ones."""
        return tuple(note for _, note in sorted(self._notes.items()))

    @property
    def verdict(self) -> Verdict:
        """What is known of the device."""
        return self._verdict

    def vision_encoder(self, settings: Sequence[Setting], make: Callable[[Setting], EncoderT]) -> EncoderT:
        """Open the vision encoder. Raises UnreliableDevice, or DeviceError and OptionError as ``make`` does."""

        def measure(encoder: EncoderT) -> float:
            return similarity(self._probe.encode(encoder), self._expected().features)

        return self._choose(VISION, settings, make, measure)

    def decoder(self, settings: Sequence[Setting], make: Callable[[Setting], DecoderT]) -> DecoderT:
        """Open the decoder. Raises UnreliableDevice, or DeviceError and OptionError as ``make`` does."""

        def measure(decoder: DecoderT) -> float:
            expected = self._expected()
            return similarity(self._probe.decode(decoder, expected.features[-1]), expected.logits)

        return self._choose(DECODER, settings, make, measure)

    def _choose(
        self, part: str, settings: Sequence[Setting], make: Callable[[Setting], T], measure: Callable[[T], float]
    ) -> T:
        failed: list[str] = []
        for setting in settings:
            try:
                opened = self._open(part, setting, make, measure)
            except UnreliableDevice as difference:
                failed.append(f"{setting.words} ({difference})")
            except (DeviceError, OptionError) as error:
                if not failed:
                    raise
                failed.append(f"{setting.words} (refused: {error})")
            else:
                self._chosen[part] = setting
                if failed:
                    note = f"device {self._name}: the {part} runs {setting.words}, because its results {_tried(failed)}"
                    self._notes[part] = note
                return opened
        raise UnreliableDevice(f"the {part}'s results on {self._name} {_tried(failed)}")

    def _open(self, part: str, setting: Setting, make: Callable[[Setting], T], measure: Callable[[T], float]) -> T:
        """Open a part and compare it, unless the result is known. Raises UnreliableDevice if it differs too much."""
        trial = self._trial(part, setting)
        if trial is None:
            self._expected()  # before the device needs memory
            opened = make(setting)
            try:
                found = measure(opened)
            except RuntimeError as error:
                raise DeviceError(f"{self._name} cannot run the {part}: {reason_of(error)}") from error
            trial = self._record(part, setting, found)
        elif trial.agrees:
            opened = make(setting)
        if not trial.agrees:
            raise UnreliableDevice(f"similarity {trial.similarity:.3f}")
        return opened

    def _expected(self) -> ProbeResult:
        """Return the CPU's results, computed once."""
        with self._reference_lock:
            if self._reference is None:
                self._reference = self._compute()
            return self._reference

    def _trial(self, part: str, setting: Setting) -> Trial | None:
        key = _properties(part, setting)
        return next((trial for trial in self._verdict.trials if (trial.part, trial.setting) == (part, key)), None)

    def _record(self, part: str, setting: Setting, found: float) -> Trial:
        trial = Trial(part, _properties(part, setting), setting.words, round(found, 5), found >= MIN_SIMILARITY)
        with self._lock:
            self._verdict = msgspec.structs.replace(self._verdict, trials=(*self._verdict.trials, trial))
            if self._folder:
                with contextlib.suppress(OSError):  # a cache that cannot be written: it is checked again
                    files.make_folder(self._folder)
                    content = msgspec.json.format(msgspec.json.encode(self._verdict), indent=2)
                    files.write_atomic(self._folder / self._verdict.path_name, content)
        return trial

    def _load(self, verdict: Verdict) -> Verdict:
        """Return the stored verdict, or the given one if there is none or it is damaged."""
        if self._folder:
            with contextlib.suppress(OSError, msgspec.MsgspecError, RecursionError):
                content = read_regular(self._folder / verdict.path_name, MAX_BYTES, follow=False)
                stored = msgspec.json.decode(content, type=Verdict)
                if msgspec.structs.replace(stored, trials=()) == verdict:
                    return stored
        return verdict


def _tried(failed: Sequence[str]) -> str:
    *others, last = failed
    tried = f"{', '.join(others)} and {last}" if others else last
    return f"differ from the CPU's {tried}, where at least {MIN_SIMILARITY} is right"


def _properties(part: str, setting: Setting) -> str:
    config = setting.hints.vision_config() if part == VISION else setting.hints.decoder_config()
    return f"{sorted(config.items())}{' static' if setting.static else ''}"
