"""A process that has imported the packages of ``vlrun`` and forks for each command: importing them takes half a second.

It reads one request as JSON per line on stdin and answers each with the exit code on stdout. It never opens OpenVINO's
core, whose threads a child would lack.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def import_packages() -> None:
    """Import what ``vlrun ask`` imports while it runs, but what Ctrl+C and telemetry depend on stays in the command."""
    import vlrun.backends.openvino.backend
    import vlrun.cli.commands
    import vlrun.vlm  # noqa: F401


def run(request: dict[str, Any]) -> None:
    """Become the process of a command."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        opened = os.open(request[name], os.O_RDWR)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the one of the server has read ahead
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = ["vlrun", *request["arguments"]]
    from vlrun.cli import main

    main()


def serve() -> None:
    """Run the commands of stdin one after the other."""
    import_packages()
    for line in sys.stdin:
        process = os.fork()
        if not process:
            code = 1
            try:
                run(json.loads(line))
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
