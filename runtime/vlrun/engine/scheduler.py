"""Decides which sequences run, and which of their tokens in the next forward pass.

First come, first served: a request that lacks free blocks waits, and so do those behind it. A request that shares its
prefix with one being prefilled waits for those blocks instead of computing them twice, and others may overtake it.
Every pass decodes all running sequences and prefills prompts in chunks; chunks beside decoding are small, so that a
long prompt never stalls a running answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlrun.engine.backend import SequenceStep
from vlrun.engine.sequence import Sequence
from vlrun.kv_cache.block_pool import BlockPool, OutOfBlocks


@dataclass(frozen=True)
class SchedulerConfig:
    """Limits of one forward pass.

    Attributes:
        max_sequences: Sequences that run at once.
        prefill_tokens: Prompt tokens in a pass without decoding sequences.
        mixed_prefill_tokens: Prompt tokens in a pass beside decoding sequences.
        guessed_tokens: Guessed tokens, over all sequences.
    """

    max_sequences: int = 8
    prefill_tokens: int = 512
    mixed_prefill_tokens: int = 128
    guessed_tokens: int = 8


class Scheduler:
    """The waiting and the running sequences."""

    def __init__(self, pool: BlockPool, config: SchedulerConfig) -> None:
        self._pool = pool
        self._config = config
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []

    def admit(self) -> list[Sequence]:
        """Start waiting sequences while there are free blocks, and return them."""
        admitted = []
        for sequence in list(self.waiting):
            if len(self.running) >= self._config.max_sequences:
                break
            if self._waits_for_prefix(sequence):
                continue
            try:
                sequence.open()
            except OutOfBlocks:
                break
            self.waiting.remove(sequence)
            self.running.append(sequence)
            admitted.append(sequence)
        return admitted

    def schedule(self) -> list[tuple[Sequence, SequenceStep]]:
        """Return the steps of the next forward pass; empty if no sequence can run."""
        decoding = [sequence for sequence in self.running if not sequence.prefilling]
        guesses = self._config.guessed_tokens // len(decoding) if decoding else 0
        steps = [(sequence, sequence.decode_step(guesses)) for sequence in decoding]
        budget = self._config.mixed_prefill_tokens if decoding else self._config.prefill_tokens
        for sequence in self.running:
            if budget > 0 and sequence.can_prefill:
                step = sequence.prefill_step(budget)
                budget -= len(step.ids)
                steps.append((sequence, step))
        return steps

    def drop(self, sequence: Sequence) -> None:
        """Remove a sequence and free its blocks."""
        for group in (self.waiting, self.running):
            if sequence in group:
                group.remove(sequence)
        sequence.close()

    def _waits_for_prefix(self, sequence: Sequence) -> bool:
        """Return whether a running sequence is computing the next block of this prompt."""
        hashes = sequence.prompt_hashes()
        cached = len(self._pool.find(hashes))
        if cached == len(hashes):
            return False
        return any(hashes[cached] in other.prompt_hashes()[cached:] for other in self.running if other.prefilling)
