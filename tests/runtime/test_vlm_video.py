"""Videos through the whole model, compared with transformers; prefix cache, progress and Ctrl+C."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the workbench packages")
pytest.importorskip("av", reason="the extra video is not installed")

import torch

from tests.runtime.reference import Reference
from tests.runtime.test_vlm import EXACT, QUESTION, greedy_sampler, run_uncached
from tests.video_clips import video
from vlrun import VLM, CacheConfig, Clip, Conversation, Options, Video, load, open_video
from vlrun.engine import sequence
from vlrun.engine.request import Cancellation, Request
from vlrun.errors import AnswerCancelled, OptionError
from vlrun.prompt.builder import user_turn
from vlrun.vision.patches import cut

pytestmark = pytest.mark.slow

CLIPS = {"even": 40, "odd": 50, "single": 1}
"""Name -> frames at ten a second."""


@pytest.fixture(scope="module")
def vlm(tied_model: Path) -> VLM:
    return load(tied_model, hints=EXACT)


@pytest.fixture(scope="module")
def reference(tied_checkpoint: Path) -> Reference:
    return Reference(tied_checkpoint)


def request_of(vlm: VLM, clip: Clip, max_tokens: int = 8) -> tuple[Request, dict[str, torch.Tensor]]:
    """Return the engine's request, and the arguments of transformers' model, with the same patches."""
    built = vlm.build_prompt([user_turn([clip, np.full((64, 64, 3), 200, np.uint8)], QUESTION)])
    request = vlm.build_request(built, greedy_sampler(vlm, built.prompt.ids), max_tokens)
    preprocessing, vision = vlm.manifest.preprocessing, vlm.manifest.vision
    patches = [torch.from_numpy(cut(image, grid, preprocessing, vision).pixels) for image, grid in built.images]
    grids = [[1, grid.height, grid.width] for _, grid in built.images]
    ids = torch.from_numpy(request.ids)[None]
    pairs = len(clip.pairs)
    return dataclasses.replace(request, eos=frozenset()), {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values_videos": torch.cat(patches[:pairs]),
        "video_grid_thw": torch.tensor([[pairs, *grids[0][1:]]]),
        "pixel_values": torch.cat(patches[pairs:]),
        "image_grid_thw": torch.tensor(grids[pairs:]),
    }


def logits_of(reference: Reference, inputs: dict[str, torch.Tensor], tokens: Sequence[int]) -> np.ndarray:
    ids = torch.cat([inputs["input_ids"], torch.tensor([list(tokens)])], 1)
    with torch.no_grad():
        output = reference.model(**{**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)})
    return output.logits[0].numpy()[inputs["input_ids"].shape[1] - 1 : -1]


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("part", [4096, 6])
def test_logits_and_positions_equal_transformers(
    vlm: VLM, reference: Reference, name: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video and an image in one prompt: vision, DeepStack, M-RoPE; at once, and part by part."""
    monkeypatch.setattr(sequence, "FEATURE_TOKENS", part)
    request, inputs = request_of(vlm, open_video(video(CLIPS[name], gop=5)))
    positions, _ = reference.model.model.get_rope_index(
        inputs["input_ids"], inputs["image_grid_thw"], inputs["video_grid_thw"], inputs["attention_mask"]
    )
    np.testing.assert_array_equal(request.positions, positions[:, 0].numpy())
    tokens, logits = run_uncached(vlm, request)
    expected = logits_of(reference, inputs, tokens)
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()
    assert expected.argmax(1).tolist()[0] == tokens[0] or len(set(tokens)) > 1


def test_questions_about_a_video(vlm: VLM, tmp_path: Path) -> None:
    """A path, bytes, a Video and a clip; the second question finds the video in the cache; ask_each takes videos."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(video(60))
    options = Options(max_tokens=4, temperature=0)
    answers = [vlm.ask(source, QUESTION, options) for source in (path, path.read_bytes(), Video(path))]
    assert len({answer.text for answer in answers}) == 1
    assert [answer.usage.image_tokens for answer in answers] == [6 * 6] * 3
    assert answers[1].usage.cached_tokens >= 64
    outcomes = list(vlm.ask_each([path, tmp_path / "none.mp4", Video(path, max_frames=4)], QUESTION, options))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert outcomes[0].answer is not None
    assert outcomes[0].answer.text == answers[0].text


def test_progress_and_cancellation(vlm: VLM) -> None:
    clip = open_video(video(100, size=(160, 128)))
    vlm.engine.pool.evict_all()
    phases = [chunk.progress for chunk in vlm.stream(clip, QUESTION, Options(max_tokens=4, progress=True))]
    vision = [one.done for one in phases if one is not None and one.phase == "vision"]
    assert vision == sorted(vision)
    assert len(set(vision)) == len(clip.pairs) + 1
    cancellation = Cancellation()
    stream = vlm.chat([user_turn(clip, "Why?")], Options(progress=True), cancellation=cancellation)
    next(stream)
    cancellation.cancel()
    with pytest.raises(AnswerCancelled):
        list(stream)


def test_a_conversation_about_a_video_is_saved_and_restored(vlm: VLM, tmp_path: Path) -> None:
    """Pixel by pixel, so that its prefix is still in the cache."""
    conversation = Conversation(vlm, options=Options(max_tokens=4, temperature=0))
    clip = dataclasses.replace(open_video(video(30)), label="Door")
    conversation.ask(QUESTION, [clip])
    conversation.save(tmp_path / "saved.json")
    restored = Conversation(vlm, options=Options(max_tokens=4, temperature=0))
    restored.load(tmp_path / "saved.json")
    (found,) = [part for turn in restored.turns for part in turn.parts if isinstance(part, Clip)]
    assert found.label == "Door"
    assert (found.size, found.frames, found.seconds) == (clip.size, clip.frames, clip.seconds)
    assert [pair.sha256 for pair in found.pairs] == [pair.sha256 for pair in clip.pairs]
    assert restored.ask("Why?").usage.cached_tokens >= 32
    saved = json.loads((tmp_path / "saved.json").read_text())
    (part,) = [part for turn in saved["turns"] for part in turn["parts"] if "clip" in part]
    for key, value in (("seconds", []), ("pngs", ["x"] * len(clip.pairs)), ("frames", "x"), ("size", [1])):
        damaged = {**part["clip"], key: value}
        text = json.dumps(saved).replace(json.dumps(part["clip"]), json.dumps(damaged))
        (tmp_path / "damaged.json").write_text(text)
        with pytest.raises(OptionError, match=r"damaged|not a conversation"):
            restored.load(tmp_path / "damaged.json")


def test_a_long_video_fits_into_a_small_context(tied_model: Path) -> None:
    """However long it is."""
    with load(tied_model, hints=EXACT, cache=CacheConfig(context=1024)) as vlm:
        answer = vlm.ask(video(2000, 10, gop=50, size=(96, 64)), QUESTION, Options(max_tokens=2))
        assert answer.usage.image_tokens <= 512


def test_the_videos_of_a_conversation_share_the_context(tied_model: Path) -> None:
    """Guards a second video that no longer fits, because the first one got all that is meant for videos."""
    with load(tied_model, hints=EXACT, cache=CacheConfig(context=1024)) as vlm:
        conversation = Conversation(vlm, options=Options(max_tokens=2))
        for frames in range(600, 2400, 300):
            answer = conversation.ask(QUESTION, video(frames, 10, gop=50, size=(96, 64)))
            assert answer.usage.completion_tokens
