"""Asks about every file of folders with test images, many of them broken on purpose, and reports what became of each.

    python -m benchmarks.image_sweep FOLDER... [--memory MIB] [--seconds N]

Test images are in the sdists of Pillow (``Tests/images``) and pillow_heif (``tests/images``). Every file must end in an
answer or in one sentence; the process must not crash or hang, and its memory must stay below the limit and not grow.
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

MEMORY_MIB = 3072
"""Decoding takes at most 1,800 MB, see ``MAX_PIXELS``; the rest are the files, the model and the libraries."""
SECONDS_WITHOUT_A_ROW = 300.0
MAX_MESSAGE = 400
_FAULTS = re.compile(r"Traceback|internal error|Error\(|<[a-z_]+ object|\n")
_EXPECTED_CODES = (0, 3)


@dataclass
class Report:
    """What was seen. ``faults`` is empty if all is well."""

    answers: int = 0
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: list[str] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    peak: int = 0

    def check(self, files: Sequence[str], rows: Sequence[dict[str, str]], limit: int) -> None:
        """Count the rows, and find what must not be."""
        found = collections.Counter(row["file"] for row in rows)
        self.faults += [f"{file}: {found[file]} rows" for file in files if found[file] != 1]
        for row in rows:
            if "error" not in row:
                self.answers += 1
                continue
            message = row["error"]
            self.errors[_kind(message, row["file"])] += 1
            if _FAULTS.search(message) or len(message) > MAX_MESSAGE + len(row["file"]):
                self.faults.append(f"{row['file']}: {message!r}")
        if self.peak > limit:
            self.faults.append(f"peak memory {self.peak} MiB, the limit is {limit}")

    def __str__(self) -> str:
        quarter = max(len(self.resident) // 4, 1)
        first, last = (
            statistics.median(part or [0]) for part in (self.resident[quarter : 2 * quarter], self.resident[-quarter:])
        )
        lines = [f"{self.answers} answers, {self.errors.total()} errors, {len(self.faults)} faults"]
        lines += [f"memory: {self.peak} MiB peak; median {first:.0f} MiB in the second quarter, {last:.0f} in the last"]
        lines += [f"{count:5} x {kind}" for kind, count in self.errors.most_common()]
        return "\n".join([*lines, *(f"FAULT {fault}" for fault in self.faults)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep; return 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--memory", type=int, default=MEMORY_MIB, help="limit in MiB")
    parser.add_argument("--seconds", type=float, default=SECONDS_WITHOUT_A_ROW, help="without a row, for a hang")
    given = parser.parse_args(arguments)
    files = [str(path) for folder in given.folders for path in sorted(folder.rglob("*")) if path.is_file()]
    with tempfile.TemporaryDirectory() as folder:
        report = sweep(files, Path(folder) / "rows.jsonl", given.memory, given.seconds)
    print(f"{len(files)} files: {report}")
    return bool(report.faults)


def sweep(files: Sequence[str], out: Path, memory: int, seconds: float) -> Report:
    """Ask about all files in one process, and watch it."""
    report = Report()
    question = ("Describe this image.", "--max-tokens", "4", "--detail", "low", "--kv-disk", "0")
    command = [sys.executable, "-m", "vlrun.cli", "ask", "--each", *files, "-q", *question, "-o", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        size, changed = 0, time.monotonic()
        while process.poll() is None:
            _measure(process.pid, report)
            if (now := out.stat().st_size if out.exists() else 0) != size:
                size, changed = now, time.monotonic()
            if time.monotonic() - changed > seconds:
                report.faults.append(f"no row for {seconds:g} s")
                process.kill()
            time.sleep(0.2)
        errors = process.stderr.read().decode(errors="replace") if process.stderr else ""
    if process.returncode not in _EXPECTED_CODES:
        report.faults.append(f"exit code {process.returncode}: {errors[-MAX_MESSAGE:]!r}")
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()] if out.exists() else []
    report.check(files, rows, memory)
    return report


def _measure(process: int, report: Report) -> None:
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    except OSError:  # it has just ended
        return
    values = {name: int(size) // 1024 for name, size in re.findall(r"(VmHWM|VmRSS):\s+(\d+) kB", status)}
    report.resident.append(values.get("VmRSS", 0))
    report.peak = max(report.peak, values.get("VmHWM", 0))


def _kind(message: str, file: str) -> str:
    """Return a message without names and numbers, to count equal ones."""
    return re.sub(r"\d[\d,.]*", "N", message.replace(f"'{file}'", "FILE"))


if __name__ == "__main__":
    sys.exit(main())
