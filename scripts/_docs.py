"""Update the command output shown in README.md and docs/; with ``--check``, fail if a page is outdated.

The output stands between two marks, and the first one names its command::

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
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SHOWN = re.compile(r"<!-- output of: (?P<command>.+?) -->\n.*?<!-- end of output -->", re.DOTALL)


def main() -> int:
    """Update or check the pages; return 1 if a check finds an outdated one."""
    outdated = [page for page in PAGES if not _update(page, check="--check" in sys.argv[1:])]
    for page in outdated:
        print(f"{page.relative_to(ROOT)} shows outdated output; run scripts/docs", file=sys.stderr)
    return 1 if outdated else 0


def _update(page: Path, check: bool) -> bool:
    """Update a page unless ``check``; return whether it is up to date."""
    old = page.read_text(encoding="utf-8")
    new = SHOWN.sub(_show, old)
    if new != old and not check:
        page.write_text(new, encoding="utf-8")
    return new == old or not check


def _show(match: re.Match[str]) -> str:
    command = match["command"]
    return f"<!-- output of: {command} -->\n```text\n$ {command}\n{_output(command)}\n```\n<!-- end of output -->"


def _output(command: str) -> str:
    programs = Path(sys.executable).parent
    settings = os.environ | {"COLUMNS": "100", "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    settings |= {"VLRUN_MODEL": "", "XDG_CONFIG_HOME": os.devnull}  # the pages show the embedded model
    return subprocess.run(
        shlex.split(command), cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.rstrip()


if __name__ == "__main__":
    sys.exit(main())
