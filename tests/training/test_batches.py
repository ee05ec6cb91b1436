"""Rows of a batch equal the runtime's prompts, and targets are at the positions that predict the answers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer

pytest.importorskip("torch", reason="needs the workbench packages")

from tests.training.scenes import draw_with_tools
from training.batch_contents import Asked, RowContents
from training.batches import NO_TARGET, PAD, PREFIX, TEXT_ONLY, Batch, Packer, make_batch
from training.clips import draw_clip, sample_timing
from training.qa import QAPair, Turns
from training.scenes import draw_scene
from training.tool_definitions import Toolset
from training.tool_questions import result_of
from training.training_step import shared
from training.vocabulary import CHAT_TEMPLATE
from vlrun.models.qwen3_vl.tool_calls import TOOL_CALLS
from vlrun.prompt.chat_template import ChatTemplate, ImagePlaceholder, Message
from vlrun.prompt.tool_calls import find_tool_calls
from vlrun.vision.grid import Grid


def test_a_follow_up_question_sees_the_earlier_turns(tokenizer: Tokenizer, batch: Batch) -> None:
    between = "<|im_end|>\n<|im_start|>user\n"
    follow_ups = 0
    for row, qa_pairs in enumerate(batch.qa_pairs):
        for (before, _, end), (after, first, _) in itertools.pairwise(qa_pairs):
            if batch.groups[row, end] == batch.groups[row, end - 1] == batch.groups[row, first]:
                text = tokenizer.decode(batch.ids[row, end : first + 1].tolist(), skip_special_tokens=False)
                assert text == f"{between}{after.question}<|im_end|>\n<|im_start|>assistant\n", before
                follow_ups += 1
    assert follow_ups or len(batch.starts) > 1 or batch.sharing > 1


def test_targets_are_the_answers_one_position_earlier(tokenizer: Tokenizer, batch: Batch) -> None:
    for row, qa_pairs in enumerate(batch.qa_pairs):
        for qa, first, end in qa_pairs:
            targets = batch.targets[row, first:end]
            assert tokenizer.decode(targets[:-1].tolist()) == qa.answer
            assert targets[-1] == tokenizer.token_to_id("<|im_end|>")
            assert batch.ids[row, first + 1 : end].tolist() == targets[:-1].tolist()
    assert (batch.targets[batch.groups == PAD] == NO_TARGET).all()


def test_attention_targets_are_at_the_positions_that_predict_their_characters(
    tokenizer: Tokenizer, batch: Batch
) -> None:
    attention = batch.attention
    checked = 0
    for row, qa_pairs in enumerate(batch.qa_pairs):
        for qa, first, end in qa_pairs:
            positions = attention.positions[
                (attention.rows == row) & (attention.positions >= first) & (attention.positions < end)
            ]
            predicted = tokenizer.decode([int(batch.targets[row, position]) for position in positions])
            expected = "".join(qa.answer[target.start : target.end] for target in qa.attention)
            assert expected in predicted, qa
            assert not qa.attention or len(predicted) <= len(expected) + 2 * len(qa.attention), qa
            checked += bool(qa.attention)
    assert checked >= 4
    assert np.allclose(attention.targets.sum(1), 1)


def longest_conversation(conversations: list[Turns]) -> Turns:
    """Return a conversation with a call, its result and a further question, or an empty one."""
    fits = [turns for turns in conversations if [turn.task for turn in turns[:2]] == ["tool_call", "tool_result"]]
    return next((turns for turns in fits if len(turns) == 3), ())


@pytest.mark.parametrize("system", [None, "Be short."])
def test_rows_equal_the_runtimes_prompts(tokenizer: Tokenizer, system: str | None) -> None:
    """Tools, image, call and result in a row equal the runtime's prompt token for token."""
    image, grid = tokenizer.token_to_id("<|image_pad|>"), Grid(4, 6, 2)
    packer, template = Packer(tokenizer), ChatTemplate(CHAT_TEMPLATE, tokenizer, image)
    drawn, toolset, conversations = next(
        found for found in (draw_with_tools("shelf", seed, 2) for seed in range(99)) if longest_conversation(found[2])
    )
    toolset, turns = replace(toolset, system=system), longest_conversation(conversations)
    contents = RowContents([drawn], [Asked(turns)], toolset)
    prefix = replace(packer.build_prefix(grid, contents), padding=7)
    row = packer.pack(contents.asked, grid, 400, prefix)
    (call,) = find_tool_calls(turns[0].answer, TOOL_CALLS)
    messages = [
        *([Message("system", (system,))] if system else []),
        Message("user", (ImagePlaceholder(), turns[0].question)),
        Message("assistant", (), (call,)),
        Message("tool", (str(result_of(turns[1].question)),)),
        Message("assistant", (turns[1].answer,)),
        Message("user", (turns[2].question,)),
    ]
    expected = template.encode(messages, [grid.tokens], toolset.definitions)
    ids, groups = row.ids, row.groups
    visible = np.flatnonzero((groups == PREFIX) | (groups == PREFIX + 1))
    assert ids[visible[: len(expected.ids)]].tolist() == list(expected.ids)
    assert row.positions[0, visible].tolist() == sorted(row.positions[0, visible].tolist())
    assert row.starts == (expected.image_offsets[0] + 7,)


@pytest.mark.parametrize("system", [None, "You are a shop assistant. 请简短回答。"])
@pytest.mark.parametrize(("text_first", "before"), [(True, "How many 2 red cans?"), (False, "Look:"), (False, "")])
@pytest.mark.parametrize("images", [1, 2])
def test_rows_equal_the_runtimes_prompts_in_each_order(
    tokenizer: Tokenizer, system: str | None, text_first: bool, before: str, images: int
) -> None:
    """A system prompt, text before the image, and a second turn."""
    grid, packer = Grid(4, 6, 2), Packer(tokenizer)
    template = ChatTemplate(CHAT_TEMPLATE, tokenizer, tokenizer.token_to_id("<|image_pad|>"))
    turns = (
        QAPair("count_kind", "en", before if text_first else "And?", "2"),
        QAPair("read", "zh", "多少钱？", "$1"),
    )
    scenes = [draw_scene("tag", (96, 64), np.random.default_rng(seed)) for seed in range(images)]
    contents = RowContents(scenes, [Asked(turns)], Toolset((), system), before, text_first)
    row = packer.pack_contents([contents], grid)[0]
    names = ["Picture 1: ", "Picture 2: "] if images == 2 else [""]
    named = [part for name in names for part in (name, ImagePlaceholder())]
    messages = [
        *([Message("system", (system,))] if system else []),
        Message("user", (before, *named, "" if text_first else "And?")),
        Message("assistant", ("2",)),
        Message("user", ("多少钱？",)),
        Message("assistant", ("$1",)),
    ]
    expected = template.encode(messages, [grid.tokens] * images)
    ids = row.ids[: row.used].tolist()
    assert ids == list(expected.ids)[: len(ids)]
    assert row.starts == tuple(expected.image_offsets)


def test_text_first_rows_share_their_images(tokenizer: Tokenizer) -> None:
    """Three rows about each image: one question before the image each, because the image's tokens attend to it."""
    batch = make_batch(np.random.default_rng(1), Packer(tokenizer), [], 4, "shapes", text_first=True)
    assert len(batch.ids) == batch.sharing * len(batch.rgb) == 6
    visual = pytest.importorskip("torch").arange(2.0)[:, None, None].expand(2, 4, 3)
    assert shared(visual, batch)[:, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]
    for row, ((qa, first, _), *_) in zip(batch.ids, batch.qa_pairs, strict=True):
        assert f"user\n{qa.question}<|vision_start|>" in tokenizer.decode(
            row[:first].tolist(), skip_special_tokens=False
        )


@pytest.mark.parametrize("text_first", [False, True])
def test_rows_of_clips_equal_the_prompts_of_transformers(tokenizer: Tokenizer, text_first: bool) -> None:
    """Each frame pair follows the text of its time; the text of the user touches the first one."""
    rng = np.random.default_rng(0)
    clip = draw_clip((128, 128), sample_timing(300, 25), rng)
    turns = (QAPair("clip_moves", "en", "What moves?", "ball"),)
    contents = RowContents(
        list(clip.scenes), [Asked(turns)], before_image="What moves?", text_first=text_first, clip=clip
    )
    row = Packer(tokenizer).pack_contents([contents], Grid(4, 6, 2))[0]
    times = ["0.5", "2.7", "4.9", "7.1", "9.2", "11.4"]
    pairs = "".join(f"<{time} seconds><|vision_start|>{'<|video_pad|>' * 6}<|vision_end|>" for time in times)
    question = "" if text_first else "What moves?"
    text = f"<|im_start|>user\nWhat moves?{pairs}{question}<|im_end|>\n<|im_start|>assistant\nball"
    assert row.ids[: row.used].tolist() == tokenizer.encode(text).ids
    assert len(row.starts) == len(times)


def test_a_text_only_conversation_may_have_a_system_prompt(tokenizer: Tokenizer) -> None:
    asked = Asked((QAPair("self", "en", "Hello", "Hi"),), sees_images=False, system="Be short.")
    scene = draw_scene("tag", (96, 64), np.random.default_rng(0))
    row = Packer(tokenizer).pack_contents([RowContents([scene], [asked])], Grid(4, 6, 2))[0]
    text = tokenizer.decode(row.ids[row.groups == TEXT_ONLY].tolist(), skip_special_tokens=False)
    assert text.startswith("<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n")
    assert row.positions[0, row.groups == TEXT_ONLY][0] == 0
