"""Rows of a batch equal the runtime's prompts, and targets are at the positions that predict the answers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer

pytest.importorskip("torch", reason="needs the workbench packages")

from tests.training.scenes import draw_with_tools
from training.batches import NO_TARGET, PAD, PREFIX, Batch, Packer
from training.qa import Turns
from training.tool_questions import result_of
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
    assert follow_ups or len(batch.starts) > 1


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
    assert checked >= 5
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
    _, toolset, conversations = next(
        drawn for drawn in (draw_with_tools("shelf", seed, 2) for seed in range(99)) if longest_conversation(drawn[2])
    )
    toolset, turns = replace(toolset, system=system), longest_conversation(conversations)
    prefix = replace(packer.build_prefix(grid, 1, toolset), padding=7)
    row = packer.pack([(turns, True)], grid, 400, prefix)
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
