"""A trial compilation in a process of its own, which can be ended: some schemas keep llguidance busy for minutes.

Knows how to start itself and llguidance; knows no tokens and no other module but errors. The parent calls `try_out`;
the child runs this file as a script, reads a grammar from standard input and exits with 0 if it compiles.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

TRIAL_SECONDS = 0.6
"""CPU time of the child's compiling: with its start (0.2 s), and the parent that compiles again, less than 2 s. Time of
the CPU and not of the clock, so that a schema is not good or bad by what else the box has to do.
"""
WAIT_SECONDS = 20.0
"""Clock: a box on which a child has not come so far is not to be waited for."""
MAX_TRIAL_BYTES = 2 * 1024**3
"""Address space of the child."""


def try_out(grammar: str) -> str:
    """Compiles the grammar in a child process: an empty string, or why it does not compile."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(Path(__file__))],
            input=grammar.encode(),
            capture_output=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "this box is too busy to try it out; ask again later"
    if done.returncode == 0:
        return ""
    if done.returncode == -signal.SIGPROF:
        return "it takes too long to compile"
    said = done.stdout.decode("utf-8", "replace").splitlines()
    return said[0] if said else "it is too large to compile"


def _main() -> int:
    """The child: 0 and silence, or 1 and a line that says why."""
    import resource

    import llguidance

    resource.setrlimit(resource.RLIMIT_AS, (MAX_TRIAL_BYTES, MAX_TRIAL_BYTES))
    signal.setitimer(signal.ITIMER_PROF, TRIAL_SECONDS)  # its signal ends the process
    failed, messages = llguidance.LLMatcher.validate_grammar_with_warnings(sys.stdin.read())
    sys.stdout.write(messages[0] if failed else "")
    return int(failed)


if __name__ == "__main__":
    sys.exit(_main())
