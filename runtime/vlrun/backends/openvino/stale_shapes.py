"""What an interrupted inference leaves behind in the CPU plugin, and the inference that puts it right.

The plugin infers the shapes of many nodes before it executes the first of them, and a node whose input has the shape of
its last execution keeps its output as it is. So after an inference of n tokens and an interrupted one of m, the nodes
that were not reached have outputs for m tokens but take them for those of n: another inference of n tokens fails, and
fails again when it is repeated. An inference of a third size gives every node its shapes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count


class StaleShapes:
    """The sizes for which a model may have wrong shapes since an inference was interrupted."""

    def __init__(self) -> None:
        self._last: frozenset[int] = frozenset()
        self._stale: frozenset[int] = frozenset()

    @contextmanager
    def inference(self, *sizes: int) -> Iterator[None]:
        """Run an inference whose inputs have these sizes; an error or Ctrl+C interrupts it."""
        try:
            yield
        except BaseException:
            self._stale |= self._last.union(sizes)
            raise
        self._last, self._stale = frozenset(sizes), frozenset()

    def repairing_size(self, step: int = 1) -> int | None:
        """Return the size, a multiple of ``step``, that must be run before the next inference; None if none must."""
        return next(size for size in count(step, step) if size not in self._stale) if self._stale else None
