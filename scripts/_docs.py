"""Write the output of commands into README.md, or with ``--check`` only say whether it still stands there.

A shown output stands between two marks, and the command in the first makes it::

    <!-- output of: vlrun ask --help -->
    <!-- end of output -->
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SHOWN = re.compile(r"<!-- output of: (?P<command>.+?) -->\n.*?<!-- end of output -->", re.DOTALL)


def main() -> int:
    """Update README.md, or check it; the exit status is 1 if a check finds it outdated."""
    old = README.read_text(encoding="utf-8")
    new = SHOWN.sub(_show, old)
    if new == old:
        return 0
    if "--check" in sys.argv[1:]:
        print("README.md shows outdated output: run scripts/docs", file=sys.stderr)
        return 1
    README.write_text(new, encoding="utf-8")
    return 0


def _show(match: re.Match[str]) -> str:
    command = match["command"]
    return f"<!-- output of: {command} -->\n```text\n$ {command}\n{_output(command)}\n```\n<!-- end of output -->"


def _output(command: str) -> str:
    programs = Path(sys.executable).parent
    settings = os.environ | {"COLUMNS": "100", "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        shlex.split(command), cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.rstrip()


if __name__ == "__main__":
    sys.exit(main())
