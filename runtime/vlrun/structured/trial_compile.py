"""Trial compilation in a child process with limits, because llguidance can take minutes for some schemas.

The parent calls `try_compile`. The child runs this file as a script, reads a grammar from standard input and exits with
0 if it compiles.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

TRIAL_SECONDS = 0.6
"""CPU time of the child's compilation, so that the result does not depend on the machine's load. With the child's start
(0.2 s) and the parent's compilation the total stays below 2 s.
"""
WAIT_SECONDS = 20.0
"""Wall-clock limit."""
MAX_TRIAL_BYTES = 2 * 1024**3
"""Address space of the child."""


def try_compile(grammar: str) -> str:
    """Compile a grammar in a child process. Return why it does not compile, or an empty string."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(Path(__file__))],
            input=grammar.encode(),
            capture_output=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "the machine is too busy to compile it; try again later"
    if done.returncode == 0:
        return ""
    if done.returncode == -signal.SIGPROF:
        return "it takes too long to compile"
    return next(iter(done.stdout.decode("utf-8", "replace").splitlines()), "it is too large to compile")


def _main() -> int:
    import resource

    import llguidance

    resource.setrlimit(resource.RLIMIT_AS, (MAX_TRIAL_BYTES, MAX_TRIAL_BYTES))
    signal.setitimer(signal.ITIMER_PROF, TRIAL_SECONDS)  # its signal ends the process
    failed, messages = llguidance.LLMatcher.validate_grammar_with_warnings(sys.stdin.read())
    sys.stdout.write(messages[0] if failed else "")
    return int(failed)


if __name__ == "__main__":
    sys.exit(_main())
