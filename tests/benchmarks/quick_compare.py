"""``benchmarks.compare`` with the limits of a machine that is not measured: ``quick_compare.py [--fake] ARGUMENTS``.

``--fake`` replaces vlrun's workload too: each of its two processes prints a sample of every figure and ends half a
second later. The workload itself is tested with ``vlrun bench``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from benchmarks import compare, participants
from vlrun.bench.ceiling import Ceiling
from vlrun.bench.report import FIGURES
from vlrun.bench.runner import WorkloadCommand

WORKLOAD = "--workload"


def fake_workload(name: str, model: Path, length: Sequence[str]) -> WorkloadCommand:
    """Return a workload of two processes."""
    return WorkloadCommand(name, ("tests.benchmarks.quick_compare", WORKLOAD), processes=((), ()))


def main(arguments: list[str]) -> int:
    if arguments[:1] == [WORKLOAD]:
        for figure in FIGURES:
            print(json.dumps([figure, 0.5]), flush=True)
        time.sleep(0.5)
        return 0
    ceiling = Ceiling(1e10, {"f32": 1e11, "bf16": 1e11, "int8": 2e11})
    with ExitStack() as stack:
        stack.enter_context(patch.object(compare, "measure_ceiling", lambda: ceiling))
        if arguments[:1] == ["--fake"]:
            del arguments[0]
            stack.enter_context(patch.object(participants, "vlrun_workload", fake_workload))
        return compare.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
