"""The guard that ends answers which repeat themselves."""

from __future__ import annotations

from dataclasses import replace

from tests.runtime.engine.fake_decoder import FakeDecoder
from tests.runtime.engine.requests import GreedySampler, make_prompt, make_request, running_engine
from vlrun.engine.repetition import MIN_TOKENS, repeats
from vlrun.types.arrays import FloatArray


def test_loops_are_detected_but_lists_and_tables_are_not() -> None:
    assert repeats([5] * MIN_TOKENS)
    assert repeats([9] * 16 + [1, 2, 3, 4] * 48)
    assert repeats([9] * 11 + list(range(61)) * 9)
    assert not repeats([5] * (MIN_TOKENS - 16))
    table = [token for row in range(60) for token in (1, 2, row + 100, 3)]
    assert not repeats(table[:240])


def test_a_loop_ends_the_answer_unless_the_guard_is_off() -> None:
    class ConstantSampler(GreedySampler):
        def sample(self, logits: FloatArray) -> int:
            return 3

    prompt = make_prompt([1], 300)
    with running_engine(FakeDecoder(100)) as engine:
        for guard, reason, length in ((True, "repetition", MIN_TOKENS), (False, "length", 300)):
            stream = engine.submit(replace(make_request(prompt), sampler=ConstantSampler(), repetition_guard=guard))
            assert len(list(stream)) == length
            assert stream.finish_reason == reason
