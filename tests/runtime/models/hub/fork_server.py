"""Pulls in children of this process, which is started once: ``python fork_server.py ENDPOINT``.

Reads lines ``STORE COUNT``: a child pulls to the store and, with a count above 0, kills itself with SIGKILL at that
file operation in the store. Prints the child's process id, and later its status.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import huggingface_hub.hf_api  # noqa: F401 - imported before the forks

from vlrun.models.hub.client import Hub
from vlrun.models.hub.pull import Pull
from vlrun.models.hub.reference import parse_reference
from vlrun.models.store.store import ModelStore

OPERATIONS = frozenset(("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"))


def kill_at(store: str, count: int) -> None:
    """Kill this process at the ``count``-th file operation in the store."""
    done = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal done
        if event in OPERATIONS and str(arguments[0]).startswith(store):
            done += 1
            if done == count:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def main(endpoint: str) -> None:
    for line in sys.stdin:
        store, count = line.split()
        child = os.fork()
        if not child:
            kill_at(store, int(count))
            pull = Pull(ModelStore(Path(store)), parse_reference("acme/letters", endpoint), None, None, None, "")
            pull.run(Hub(endpoint), lambda: None)
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
