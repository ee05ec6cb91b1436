"""Comparing a GPU with the CPU: which settings are tried, what is said, and what is remembered. With fake devices."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.runtime.model_folders import make_manifest
from vlrun.backends.openvino.device_check import (
    MIN_SIMILARITY,
    DeviceCheck,
    Setting,
    Verdict,
    decoder_settings,
    vision_settings,
)
from vlrun.backends.openvino.device_probe import DeviceProbe, ProbeResult, similarity
from vlrun.backends.openvino.hints import Hints
from vlrun.engine.backend import SequenceStep, StepOutput
from vlrun.errors import DeviceError, OptionError, UnreliableDevice
from vlrun.storage import files
from vlrun.storage.inspection import NAMES
from vlrun.types.arrays import Bytes, FloatArray
from vlrun.vision.features import ImageFeatures
from vlrun.vision.vision_encoder import Patches

GPU = Hints(device="GPU", decoder_precision="f16")
MANIFEST = make_manifest({})
PROBE = DeviceProbe(MANIFEST)
VERDICT = Verdict("UHD", "openvino 1, driver 1", "fingerprint")
ROWS = MANIFEST.text.vocab_rows


class FakeEncoder:
    """An encoder whose features have an error."""

    def __init__(self, error: float = 0.0) -> None:
        self.error = error

    def warm_up(self) -> None:
        pass

    def encode(self, patches: Patches, stopped: Callable[[], bool]) -> ImageFeatures:
        random = np.random.default_rng(patches.grid.patches)
        values = random.standard_normal((3, patches.grid.tokens, 64))
        noise = np.random.default_rng(1).standard_normal(values.shape)
        return ImageFeatures((values + self.error * noise).astype(np.float32))


class FakeDecoder:
    """A decoder whose logits are a function of the tokens in its cache; ``forgets`` loses what later passes write."""

    name, block_bytes, recorder = "fake", 1, None

    def __init__(self, forgets: bool = False, block_size: int = 16, blocks: int = 16) -> None:
        self.forgets, self.block_size, self.blocks = forgets, block_size, blocks
        self.cache = np.zeros((blocks * block_size, 4))

    def forward(self, steps: Sequence[SequenceStep], stopped: Callable[[], bool]) -> list[StepOutput]:
        return [StepOutput(self._logits(step)) for step in steps]

    def _logits(self, step: SequenceStep) -> FloatArray:
        end = step.past + len(step.ids)
        slots = np.array(
            [step.blocks[at // self.block_size] * self.block_size + at % self.block_size for at in range(end)]
        )
        written = np.stack([step.ids, *step.positions], axis=1).astype(np.float64)
        for placed in step.images:
            written[placed.start : placed.start + placed.features.tokens] += placed.features.values[0, :, :4]
        context = self.cache.copy()
        context[slots[step.past :]] = written
        if not self.forgets:
            self.cache = context
        seeds = [np.cumsum(context[slots[: end - row]], axis=0)[-1] for row in reversed(range(step.rows))]
        return np.stack([np.sin(np.arange(ROWS) * (1 + seed @ [3, 5, 7, 11])) for seed in seeds]).astype(np.float32)

    def read_blocks(self, blocks: Sequence[int]) -> Bytes:
        raise NotImplementedError

    def write_blocks(self, blocks: Sequence[int], content: Bytes) -> None:
        raise NotImplementedError


def reference() -> ProbeResult:
    features = PROBE.encode(FakeEncoder())
    return ProbeResult(features, PROBE.decode(FakeDecoder(), features[-1]))


@dataclass
class FakeGPU:
    """Opens encoders with the error of their setting, and counts."""

    errors: Mapping[str, float | Exception]
    opened: list[str] = field(default_factory=list)

    def open(self, setting: Setting) -> FakeEncoder:
        self.opened.append(setting.words)
        found = self.errors.get(setting.words, 0.0)
        if isinstance(found, Exception):
            raise found
        return FakeEncoder(found)


def make_check(folder: Path | None, verdict: Verdict = VERDICT) -> DeviceCheck:
    return DeviceCheck("GPU", verdict, folder, PROBE, reference)


ALL = ["with the given settings", "with static shapes", "in f32", "in f32 with static shapes"]


@pytest.mark.parametrize("right", range(4))
def test_settings_are_tried_in_order_until_one_agrees(tmp_path: Path, right: int) -> None:
    gpu = FakeGPU(dict.fromkeys(ALL[:right], 5.0))
    check = make_check(tmp_path)
    encoder = check.vision_encoder(vision_settings(GPU), gpu.open)
    assert encoder.error == 0
    assert gpu.opened == ALL[: right + 1]
    assert len(check.notes) == (right > 0)
    for note in check.notes:
        assert note.startswith(f"device GPU: the vision encoder runs {ALL[right]}, because its results differ from the")
        assert "\n" not in note
        assert all(words in note for words in ALL[:right])
    assert [trial.agrees for trial in check.verdict.results] == [False] * right + [True]
    assert ALL[right] in check.settings


def test_a_device_with_other_results_is_refused_in_one_sentence(tmp_path: Path) -> None:
    gpu = FakeGPU(dict.fromkeys(ALL, 5.0))
    with pytest.raises(UnreliableDevice) as raised:
        make_check(tmp_path).vision_encoder(vision_settings(GPU), gpu.open)
    message = str(raised.value)
    assert message.startswith("the vision encoder's results on GPU differ from the CPU's with the given settings (simi")
    assert message.endswith(f"where at least {MIN_SIMILARITY} is right")
    assert "\n" not in message
    assert gpu.opened == ALL


@pytest.mark.parametrize("right", [0, 2, 4])
def test_the_verdict_is_stored_and_no_probe_runs_again(tmp_path: Path, right: int) -> None:
    """The next process opens only what agreed, with the same notes, and does not ask the CPU."""

    def no_reference() -> ProbeResult:
        raise AssertionError

    results = []
    for compute in (reference, no_reference):
        gpu = FakeGPU(dict.fromkeys(ALL[:right], 5.0))
        check = DeviceCheck("GPU", VERDICT, tmp_path, PROBE, compute)
        try:
            check.vision_encoder(vision_settings(GPU), gpu.open)
            results.append((check.notes, check.settings))
        except UnreliableDevice as error:
            results.append(((str(error),), ""))
    assert results[0] == results[1]
    assert gpu.opened == ALL[right : right + 1]
    (file,) = tmp_path.iterdir()
    stored = json.loads(file.read_text())
    assert stored["device"] == "UHD"
    assert [trial["agrees"] for trial in stored["results"]] == ([False] * right + [True])[:4]


@pytest.mark.parametrize("change", ["device", "runtime", "model"])
def test_a_new_driver_openvino_or_model_is_checked_again(tmp_path: Path, change: str) -> None:
    make_check(tmp_path).vision_encoder(vision_settings(GPU), FakeGPU({}).open)
    for verdict, trials in ((VERDICT, 1), (msgspec.structs.replace(VERDICT, **{change: "another"}), 0)):
        assert len(make_check(tmp_path, verdict).verdict.results) == trials


def test_other_properties_are_checked_again(tmp_path: Path) -> None:
    make_check(tmp_path).vision_encoder(vision_settings(GPU), FakeGPU({}).open)
    check = make_check(tmp_path)
    check.vision_encoder(vision_settings(Hints(device="GPU", group_size=32)), FakeGPU({}).open)
    assert len(check.verdict.results) == 2


@pytest.mark.parametrize("content", [b"", b"{", b'{"device": 5}', b"\xff", b'{"x":' + b"[" * 50_000])
def test_a_damaged_or_unwritable_file_only_repeats_the_check(tmp_path: Path, content: bytes) -> None:
    make_check(tmp_path).vision_encoder(vision_settings(GPU), FakeGPU({}).open)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert not make_check(tmp_path).verdict.results
    for folder in (file, None):
        check = make_check(folder)
        check.vision_encoder(vision_settings(GPU), FakeGPU({}).open)
        assert check.verdict.results


def test_a_device_that_refuses_every_setting_raises_the_first_refusal(tmp_path: Path) -> None:
    """A missing driver is an error, not a wrong result, and nothing is remembered of it."""
    for error in (DeviceError("no driver"), OptionError("no u7")):
        gpu = FakeGPU({**dict.fromkeys(ALL, DeviceError("also")), ALL[0]: error})
        with pytest.raises(type(error), match=str(error)):
            make_check(tmp_path).vision_encoder(vision_settings(GPU), gpu.open)
        assert gpu.opened == ALL
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [DeviceError("no memory"), OptionError("no f16")])
def test_a_refused_first_setting_is_treated_like_a_difference(tmp_path: Path, error: Exception) -> None:
    """Static shapes and f32 were tried only after wrong results, never after a refusal; now they are, once."""
    for opened in (ALL[:2], ALL[1:2]):
        check, gpu = make_check(tmp_path), FakeGPU({ALL[0]: error})
        check.vision_encoder(vision_settings(GPU), gpu.open)
        assert gpu.opened == opened
        (note,) = check.notes
        assert note == (
            "device GPU: the vision encoder runs with static shapes, because it does not run with the given settings "
            f"(refused: {error})"
        )


class Killed(BaseException):
    """Stands for a native crash: the process has no chance to tidy up."""


def crash_during_trial(folder: Path, monkeypatch: pytest.MonkeyPatch, words: str, setting: int) -> None:
    """Leave behind what a process leaves that crashes while it tries a setting."""

    def make(tried: Setting) -> FakeEncoder:
        if tried.words == words:
            raise Killed
        return FakeEncoder(5.0)

    with monkeypatch.context() as patch:
        patch.setattr(files, "remove", lambda _: None)
        with pytest.raises(Killed):
            make_check(folder).vision_encoder(vision_settings(GPU)[: setting + 1], make)


def test_a_crash_is_not_repeated_at_every_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that crashed the process at the first load did so at every later one."""
    crash_during_trial(tmp_path, monkeypatch, ALL[0], 0)
    (note,) = tmp_path.iterdir()
    assert note.name in [path.name for path in tmp_path.iterdir() if NAMES["devices"].fullmatch(path.name)]
    for _ in range(2):
        check, gpu = make_check(tmp_path), FakeGPU({})
        check.vision_encoder(vision_settings(GPU), gpu.open)
        assert gpu.opened == ALL[1:2]
        assert (
            "does not run with the given settings (refused: the process crashed; 'vlrun cache clear" in check.notes[0]
        )
        assert not note.exists()


def test_a_device_whose_every_setting_crashes_is_left_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, words in enumerate(ALL):
        crash_during_trial(tmp_path, monkeypatch, words, number)
    gpu = FakeGPU({})
    with pytest.raises(UnreliableDevice, match="the vision encoder on GPU does not run with the given settings"):
        make_check(tmp_path).vision_encoder(vision_settings(GPU), gpu.open)
    assert not gpu.opened


def test_a_trial_that_another_process_is_running_is_no_crash(tmp_path: Path) -> None:
    running = make_check(tmp_path)
    gpu = FakeGPU({})

    def make(setting: Setting) -> FakeEncoder:
        other = FakeGPU({})
        make_check(tmp_path).vision_encoder(vision_settings(GPU), other.open)
        assert other.opened == ALL[:1]
        assert [path.suffix for path in tmp_path.iterdir() if path.suffix != ".json"] == [".trying"]
        return gpu.open(setting)

    running.vision_encoder(vision_settings(GPU), make)
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 50_000])
def test_a_damaged_note_of_a_crash_is_removed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / VERDICT.trying_name).write_bytes(content)
    assert not make_check(tmp_path).verdict.results
    assert not list(tmp_path.iterdir())


def test_a_refused_setting_after_a_wrong_result_is_passed_over(tmp_path: Path) -> None:
    check = make_check(tmp_path)
    gpu = FakeGPU({ALL[0]: 5.0, ALL[1]: DeviceError("no memory")})
    check.vision_encoder(vision_settings(GPU), gpu.open)
    assert gpu.opened == ALL[:3]
    assert "with static shapes (refused: no memory)" in check.notes[0]


def test_a_decoder_that_loses_its_cache_is_found(tmp_path: Path) -> None:
    """The GPU plugin never wrote back to a cache in NumPy memory: a right prefill, and garbage after it."""
    check = make_check(tmp_path)
    decoders = {"with the given settings": FakeDecoder(forgets=True), "in f32": FakeDecoder()}
    decoder = check.decoder(decoder_settings(GPU), lambda setting: decoders[setting.words])
    assert not decoder.forgets
    assert check.notes[0].startswith("device GPU: the decoder runs in f32, because its results differ from the CPU's")
    with pytest.raises(UnreliableDevice, match="the decoder's results on GPU differ from the CPU's"):
        make_check(None).decoder(decoder_settings(GPU), lambda _: FakeDecoder(forgets=True))


def test_settings_that_are_f32_already_are_not_repeated() -> None:
    exact = Hints(device="GPU", vision_precision="f32")
    assert [setting.words for setting in vision_settings(exact)] == ALL[:2]
    assert [setting.words for setting in decoder_settings(exact)] == ALL[:1]
    assert [setting.words for setting in vision_settings(GPU)] == ALL
    assert [setting.words for setting in decoder_settings(GPU)] == [ALL[0], ALL[2]]


@pytest.mark.parametrize("block_size", [8, 16, 32])
def test_the_probe_reads_across_blocks_and_overwrites_rejected_tokens(block_size: int) -> None:
    """Any order of blocks and any block size give the same logits; a cache that is too small is refused."""
    features = reference().features[-1]
    expected = PROBE.decode(FakeDecoder(), features)
    found = PROBE.decode(FakeDecoder(block_size=block_size), features)
    assert similarity(found, expected) == 1
    with pytest.raises(OptionError, match="raise kv_memory"):
        PROBE.decode(FakeDecoder(block_size=block_size, blocks=2), features)


def test_similarity() -> None:
    rows = np.random.default_rng(0).standard_normal((2, 3, 500)).astype(np.float32)
    assert similarity([rows], [rows]) == pytest.approx(1)
    assert similarity([rows * 2 + 1], [rows]) == pytest.approx(1)
    assert similarity([-rows], [rows]) == pytest.approx(-1)
    assert similarity([rows[:, :2]], [rows]) == 0
    assert abs(similarity([rows[::-1]], [rows])) < 0.2
    one_wrong_row = rows.copy()
    one_wrong_row[1, 2] = rows[0, 0]
    assert similarity([rows, one_wrong_row], [rows, rows]) < 0.2
    for value in (np.nan, np.inf):
        broken = rows.copy()
        broken[0, 0, 0] = value
        assert similarity([broken], [rows]) == 0
    assert similarity([np.zeros_like(rows)], [rows]) == 0
