"""Checks a GPU against the CPU before it is trusted: plugins and drivers have given wrong results without an error.

At the first load on a device, the probe's results are compared with the CPU's. Where they differ, or the device refuses
a setting, or the process that tried it crashed, other settings are tried: static shapes, then f32. What was found is
stored as JSON and used until the driver, OpenVINO or the model changes, or ``vlrun cache clear devices``.

A setting is noted in a locked file while it is tried. A file without a lock was left by a process that crashed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
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

CHECK_VERSION = 2
"""Raise it when the probe or its limit changes: devices are checked again."""
MIN_SIMILARITY = 0.98
"""Lowest correlation with the CPU's results that is rounding. Right results at f16 with 8-bit caches and activations
reach 0.996 and more; the faults seen in plugins, 0.15 and less."""
CRASHED = "the process crashed; 'vlrun cache clear devices' tries it again"
TRYING = ".trying"
"""Suffix of the file that notes what is being tried."""
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


class SettingResult(msgspec.Struct, frozen=True):
    """The result of one part of the model with one setting. ``refused``: why there is no result to compare."""

    part: str
    setting: str
    words: str
    similarity: float
    agrees: bool
    refused: str

    @property
    def problem(self) -> str:
        """What is wrong with the setting, for users."""
        return f"refused: {self.refused}" if self.refused else f"similarity {self.similarity:.3f}"


class Verdict(msgspec.Struct, frozen=True):
    """What is known of a device with a model, as it is stored."""

    device: str
    runtime: str
    model: str
    results: tuple[SettingResult, ...] = ()

    @property
    def path_name(self) -> str:
        """File name: a hash of everything that makes a new check necessary."""
        key = f"{CHECK_VERSION} {MIN_SIMILARITY} {self.device} {self.runtime} {self.model}"
        return f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"

    @property
    def trying_name(self) -> str:
        """Name of the file that notes what is being tried."""
        return self.path_name.replace(".json", TRYING)


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
        verdict: The device, what runs on it and the model, without results.
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
        self._reference: ProbeResult | None = None
        self._reference_lock, self._lock, self._trying = threading.Lock(), threading.Lock(), threading.Lock()
        self._verdict = self._load(verdict)
        self._record_crash()
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
        failed: list[SettingResult] = []
        refusals: list[DeviceError | OptionError] = []
        for setting in settings:
            try:
                attempt = self._open(part, setting, make, measure)
            except (DeviceError, OptionError) as error:
                refusals.append(error)
                attempt = None, _result(part, setting, refused=str(error))
            opened, result = attempt
            if opened is None:
                failed.append(result)
                continue
            self._chosen[part] = setting
            if failed:
                self._store(*(result for result in failed if result.refused))
                self._notes[part] = f"device {self._name}: the {part} runs {setting.words}, because "
                self._notes[part] += f"{_subject(failed, 'it')} {_tried(failed)}"
            return opened
        if len(refusals) == len(settings):  # a missing driver, for example: an error, not a wrong result
            raise refusals[0]
        raise UnreliableDevice(f"{_subject(failed, f'the {part}')} on {self._name} {_tried(failed)}")

    def _open(
        self, part: str, setting: Setting, make: Callable[[Setting], T], measure: Callable[[T], float]
    ) -> tuple[T | None, SettingResult]:
        """Open a part and compare it, unless the result is known. Return None instead of a part that differs."""
        result = self._known(part, setting)
        if result is not None:
            return (make(setting) if result.agrees else None), result
        self._expected()  # before the device needs memory
        with self._trying, self._noted(part, setting):  # one part at a time: a crash tells which it was
            opened = make(setting)
            try:
                found = measure(opened)
            except RuntimeError as error:
                raise DeviceError(f"{self._name} cannot run the {part}: {reason_of(error)}") from error
        result = _result(part, setting, similarity=round(found, 5), agrees=found >= MIN_SIMILARITY)
        self._store(result)
        return (opened if result.agrees else None), result

    @contextlib.contextmanager
    def _noted(self, part: str, setting: Setting) -> Iterator[None]:
        """Note on disk that a setting is being tried, so that a later process knows if this one crashed."""
        note = self._folder / self._verdict.trying_name if self._folder else None
        result = _result(part, setting, refused=CRASHED)
        descriptor = _write_locked(note, msgspec.json.encode(result)) if note else None
        try:
            yield
        finally:
            if note and descriptor is not None:
                files.remove(note)
                os.close(descriptor)

    def _record_crash(self) -> None:
        """Store the setting that a process left noted when it crashed."""
        if self._folder:
            note = self._folder / self._verdict.trying_name
            with contextlib.suppress(OSError):
                if files.is_abandoned(note):
                    with contextlib.suppress(msgspec.MsgspecError, RecursionError):
                        self._store(
                            msgspec.json.decode(read_regular(note, MAX_BYTES, follow=False), type=SettingResult)
                        )
                    files.remove(note)

    def _expected(self) -> ProbeResult:
        """Return the CPU's results, computed once."""
        with self._reference_lock:
            if self._reference is None:
                self._reference = self._compute()
            return self._reference

    def _known(self, part: str, setting: Setting) -> SettingResult | None:
        key = _properties(part, setting)
        return next((result for result in self._verdict.results if (result.part, result.setting) == (part, key)), None)

    def _store(self, *results: SettingResult) -> None:
        """Add results to the verdict, here and on disk."""
        with self._lock:
            new = tuple(result for result in results if result not in self._verdict.results)
            self._verdict = msgspec.structs.replace(self._verdict, results=(*self._verdict.results, *new))
            if self._folder and new:
                with contextlib.suppress(OSError):  # a cache that cannot be written: it is checked again
                    content = msgspec.json.format(msgspec.json.encode(self._verdict), indent=2)
                    files.write_cached(self._folder / self._verdict.path_name, content)

    def _load(self, verdict: Verdict) -> Verdict:
        """Return the stored verdict, or the given one if there is none or it is damaged."""
        if self._folder:
            with contextlib.suppress(OSError, msgspec.MsgspecError, RecursionError):
                content = read_regular(self._folder / verdict.path_name, MAX_BYTES, follow=False)
                stored = msgspec.json.decode(content, type=Verdict)
                if msgspec.structs.replace(stored, results=()) == verdict:
                    return stored
        return verdict


def _write_locked(path: Path, content: bytes) -> int | None:
    """Write a file and return its locked descriptor; None if another process has it, or it cannot be written."""
    with contextlib.suppress(OSError):
        files.make_folder(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, content)
            os.fsync(descriptor)  # a driver may take the whole machine with it
        except OSError:
            os.close(descriptor)
        else:
            return descriptor
    return None


def _subject(failed: Sequence[SettingResult], part: str) -> str:
    """Return the subject of the sentence that ``_tried`` ends."""
    if all(result.refused for result in failed):
        return part
    return "its results" if part == "it" else f"{part}'s results"


def _tried(failed: Sequence[SettingResult]) -> str:
    *others, last = [f"{result.words} ({result.problem})" for result in failed]
    tried = f"{', '.join(others)} and {last}" if others else last
    if all(result.refused for result in failed):
        return f"does not run {tried}"
    return f"differ from the CPU's {tried}, where at least {MIN_SIMILARITY} is right"


def _result(
    part: str, setting: Setting, *, similarity: float = 0.0, agrees: bool = False, refused: str = ""
) -> SettingResult:
    return SettingResult(part, _properties(part, setting), setting.words, similarity, agrees, refused)


def _properties(part: str, setting: Setting) -> str:
    config = setting.hints.vision_config() if part == VISION else setting.hints.decoder_config()
    return f"{sorted(config.items())}{' static' if setting.static else ''}"
