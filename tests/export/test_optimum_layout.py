"""Exports in the layout of optimum-intel: the same results as in vlrun's own, on every shape of the family."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer

pytest.importorskip("torch", reason="needs the workbench packages")

import vlrun
from tests.exports import export
from vlrun import Hints, Options
from vlrun.backends.openvino.backend import REFERENCE, OpenVINOBackend
from vlrun.backends.openvino.device_probe import DeviceProbe, ProbeResult
from vlrun.errors import ModelError
from vlrun.layout import ONNX, OPTIMUM
from vlrun.manifest import CHAT_TEMPLATE, MANIFEST, TOKENIZER
from vlrun.models.model_folder import ModelFolder
from vlrun.tasks.definition import built_in_tasks

pytestmark = pytest.mark.slow

EXACT = Hints(decoder_precision="f32", vision_precision="f32", kv_precision="f32", group_size=0)
LANGUAGE_XML, LANGUAGE_BIN, _, EMBEDDINGS_BIN = OPTIMUM.files[:4]
MERGER_XML = OPTIMUM.graph_file(OPTIMUM.vision[0])

GREEDY = Options(temperature=0, presence_penalty=0, max_tokens=8, repetition_guard=False)
IMAGE = np.linspace(0, 255, 192 * 256 * 3).reshape(192, 256, 3).astype(np.uint8)
QUESTIONS = ("How many bottles?", "What is the price?", "Describe this image.")


def probe(folder: Path) -> ProbeResult:
    """Run chunked prefill with an image, decode steps, rejected tokens and two sequences in one pass, exactly."""
    opened = ModelFolder(folder)
    backend, inputs = OpenVINOBackend(opened, REFERENCE, threading.Event()), DeviceProbe(opened.manifest)
    features = inputs.encode(backend.open_vision_encoder())
    return ProbeResult(features, inputs.decode(backend.open_decoder(2**26), features[-1]))


def assert_equal(found: ProbeResult, expected: ProbeResult) -> None:
    for mine, theirs in zip((*found.features, *found.logits), (*expected.features, *expected.logits), strict=True):
        assert np.abs(mine - theirs).max() < 1e-4 * np.abs(theirs).max()


def as_downloaded(folder: Path, out: Path) -> Path:
    """Copy a folder without what only vlrun writes."""
    shutil.copytree(folder, out)
    (out / MANIFEST).unlink()
    return out


@pytest.fixture(scope="module")
def optimum_model(tied_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("optimum")
    return as_downloaded(export(tied_checkpoint, folder / "exported", OPTIMUM), folder / "downloaded")


def test_both_layouts_give_the_same_results(tied_model: Path, optimum_model: Path) -> None:
    assert_equal(probe(optimum_model), probe(tied_model))


def test_both_layouts_take_videos(tied_model: Path, optimum_model: Path) -> None:
    """Their graphs know visual tokens by a mask: those of videos have another id."""
    pytest.importorskip("av", reason="the extra video is not installed")
    from tests.video_clips import video

    clip, found = video(30, size=(96, 64)), []
    for folder in (tied_model, optimum_model):
        with vlrun.load(folder, hints=EXACT) as vlm:
            found.append(vlm.score(clip, QUESTIONS[0], "Three."))
    assert np.abs(found[0] - found[1]).max() <= 1e-4 * np.abs(found[0]).max()


def test_a_quantized_export_passes_its_check(tied_checkpoint: Path, tmp_path: Path) -> None:
    folder = export(tied_checkpoint, tmp_path / "out", OPTIMUM, "int4", check=True)
    downloaded = ModelFolder(as_downloaded(folder, tmp_path / "downloaded")).manifest.quantization
    assert (downloaded.decoder, downloaded.vision) == ("int4", "int8")


def test_a_downloaded_folder_answers_with_all_of_the_engine(tied_model: Path, optimum_model: Path) -> None:
    """Greedy answers, prefix cache, batching, tasks and heat maps are as with vlrun's own layout."""
    ours, theirs = (answers_of(folder) for folder in (tied_model, optimum_model))
    assert theirs[:-1] == ours[:-1]
    np.testing.assert_allclose(theirs[-1], ours[-1], atol=1e-4)


def answers_of(folder: Path) -> tuple[Any, ...]:
    """Return what a model answers alone, from the prefix cache, beside others and in a task, and its attention."""
    with vlrun.load(folder, hints=EXACT, cache=vlrun.CacheConfig(kv_disk=0)) as vlm:
        first = vlm.ask(IMAGE, QUESTIONS[0], replace(GREEDY, heatmap=True))
        again = vlm.ask(IMAGE, QUESTIONS[1], GREEDY)
        assert again.usage.cached_tokens > 0
        with ThreadPoolExecutor(len(QUESTIONS)) as pool:
            together = list(pool.map(lambda question: vlm.ask(IMAGE, question, GREEDY).text, QUESTIONS))
        assert together[:2] == [first.text, again.text]
        task = vlrun.run_task(vlm, IMAGE, vlrun.TaskRequest(task=built_in_tasks()["describe"]), GREEDY)
        assert first.heat is not None
        return again.text, together, task.text, first.heat.maps[0]


def test_a_thinking_model_in_the_other_layouts(tied_checkpoint: Path, optimum_model: Path, tmp_path: Path) -> None:
    """The reasoning is separated, and ends at its limit."""
    folders = [
        as_thinking(optimum_model, tmp_path / "optimum"),
        export(as_thinking(tied_checkpoint, tmp_path / "checkpoint"), tmp_path / "onnx", ONNX),
    ]
    found = []
    for folder in folders:
        hints = EXACT if folder == folders[0] else Hints()
        with vlrun.load(folder, hints=hints, cache=vlrun.CacheConfig(kv_disk=0)) as vlm:
            assert vlm.thinks
            answer = vlm.ask(IMAGE, QUESTIONS[0], replace(GREEDY, thinking_tokens=3))
        assert answer.usage.reasoning_tokens == 3
        found.append((answer.reasoning, answer.text))
    assert found[0] == found[1]
    assert all(found[0])


def as_thinking(folder: Path, out: Path) -> Path:
    """Copy a folder with the chat template and the control tokens of a Thinking model."""
    shutil.copytree(folder, out)
    tokenizer = Tokenizer.from_file(str(out / TOKENIZER))
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in ("<think>", "</think>")])
    tokenizer.save(str(out / TOKENIZER))
    template = (out / CHAT_TEMPLATE).read_text()
    (out / CHAT_TEMPLATE).write_text(template.replace("assistant\\n'", "assistant\\n<think>\\n'"))
    return out


@pytest.mark.parametrize("name", [LANGUAGE_BIN, EMBEDDINGS_BIN, OPTIMUM.weights_file(OPTIMUM.vision[0])])
def test_cut_weights_are_refused(optimum_model: Path, tmp_path: Path, name: str) -> None:
    """Guards against SIGBUS and against an answer from nothing."""
    folder = shutil.copytree(optimum_model, tmp_path / "model")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    assert_refused(folder)


@pytest.mark.parametrize(("name", "other"), [(LANGUAGE_XML, MERGER_XML), (MERGER_XML, LANGUAGE_XML)])
def test_the_graph_of_another_model_is_refused(optimum_model: Path, tmp_path: Path, name: str, other: str) -> None:
    folder = shutil.copytree(optimum_model, tmp_path / "model")
    shutil.copy(optimum_model / other, folder / name)
    assert_refused(folder)


def test_the_configuration_of_another_size_is_refused(optimum_model: Path, tmp_path: Path) -> None:
    """Guards memory that is allocated by the numbers of config.json."""
    folder = shutil.copytree(optimum_model, tmp_path / "model")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"num_hidden_layers": 4', '"num_hidden_layers": 3'))
    assert_refused(folder)


def assert_refused(folder: Path) -> None:
    with pytest.raises(ModelError) as refused, vlrun.load(folder, hints=EXACT):
        pass
    assert refused.value.exit_code == 4
    assert "\n" not in str(refused.value)
