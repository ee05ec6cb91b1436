"""Which sequences run, and what of them in the next call of the decoder.

First come, first served: a request that lacks room waits, and those behind it wait too. One that begins like another
that is being prefilled waits for that one's blocks instead of computing them twice, and lets others pass. Running
answers go on in every call; prompts fill it up in chunks, small ones while somebody reads an answer, so that a long
prompt never freezes it. Knows sequences and blocks; does not know the device.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlrun.engine.backend import SequenceStep
from vlrun.engine.sequence import Sequence
from vlrun.kv_cache.block_pool import BlockPool, NoRoom


@dataclass(frozen=True)
class SchedulerConfig:
    """``running``: sequences in one call; ``prefill``: tokens of prompts in one call, and ``beside`` running answers;
    ``guesses``: guessed tokens in one call.
    """

    running: int = 8
    prefill: int = 512
    beside: int = 128
    guesses: int = 8


class Scheduler:
    """The queue of waiting sequences and the running ones."""

    def __init__(self, pool: BlockPool, limits: SchedulerConfig) -> None:
        self._pool = pool
        self._limits = limits
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []

    def admit(self) -> list[Sequence]:
        """Let waiting sequences in while there is room; those that came in."""
        admitted = []
        for sequence in list(self.waiting):
            if len(self.running) >= self._limits.running:
                break
            if self._follows(sequence):
                continue
            try:
                sequence.open()
            except NoRoom:
                break
            self.waiting.remove(sequence)
            self.running.append(sequence)
            admitted.append(sequence)
        return admitted

    def plan(self) -> list[tuple[Sequence, SequenceStep]]:
        """What runs next; empty if nothing can."""
        decoding = [sequence for sequence in self.running if not sequence.prefilling]
        guesses = self._limits.guesses // len(decoding) if decoding else 0
        steps = [(sequence, sequence.decode_step(guesses)) for sequence in decoding]
        room = self._limits.beside if decoding else self._limits.prefill
        for sequence in self.running:
            if room > 0 and sequence.prefilling and sequence.ready:
                step = sequence.prefill_step(room)
                room -= len(step.ids)
                steps.append((sequence, step))
        return steps

    def drop(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is, and free what it holds."""
        for group in (self.waiting, self.running):
            if sequence in group:
                group.remove(sequence)
        sequence.close()

    def _follows(self, sequence: Sequence) -> bool:
        """Whether the next block that it lacks is just being made by another."""
        names = sequence.prompt_names()
        found = len(self._pool.find(names))
        if found == len(names):
            return False
        return any(names[found] in other.prompt_names()[found:] for other in self.running if other.prefilling)
