"""The results of a comparison as a JSONL file: every sample is a line, written and flushed as it is measured.

The lines of a run (one participant in one turn) are between its ``start`` and its ``end``. A run without ``end`` was
interrupted or failed; when it is repeated, its earlier samples no longer count.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlrun.bench.ceiling import Ceiling
from vlrun.bench.runner import Samples

Run = tuple[str, int]
"""Name of a participant, and its turn from 0."""


class Results:
    """The results in a file; further ones are appended.

    Raises:
        ValueError: The file has results of another comparison.
        OSError: The file cannot be read or written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.ceilings: list[Ceiling] = []
        self.finished: set[Run] = set()
        self._runs: dict[Run, Samples] = {}
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        found = [event for line in text.splitlines() if (event := _parse(line))]
        if found and found[0] != {"event": "settings", **settings}:
            raise ValueError(f"'{path}' has results of another comparison: {json.dumps(found[0])}")
        for event in found:
            self._apply(event)
        self._file = path.open("a", encoding="utf-8")
        if text and not text.endswith("\n"):  # the process was killed while it wrote a line
            self._file.write("\n")
        if not found:
            self._append({"event": "settings", **settings})

    def start(self, run: Run, ceiling: Ceiling) -> None:
        """Begin a run, with the machine's current limits."""
        self._append({"event": "start", "participant": run[0], "turn": run[1], "ceiling": asdict(ceiling)})

    def add(self, run: Run, figure: str, value: float) -> None:
        """Add one sample to the run that has started."""
        self._append({"event": "sample", "participant": run[0], "turn": run[1], "figure": figure, "value": value})

    def end(self, run: Run, error: str = "") -> None:
        """End a run; with an ``error`` it counts as unfinished."""
        event = {"event": "failed", "error": error} if error else {"event": "end"}
        self._append({**event, "participant": run[0], "turn": run[1]})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def samples(self, participants: Iterable[str]) -> dict[str, Samples]:
        """All samples of each participant that has any."""
        merged: dict[str, Samples] = {}
        for name in participants:
            for (owner, _), samples in sorted(self._runs.items()):
                if owner == name:
                    for figure, values in samples.items():
                        merged.setdefault(name, {}).setdefault(figure, []).extend(values)
        return merged

    def samples_of(self, run: Run) -> Samples:
        """The samples of one run."""
        return self._runs.get(run, {})

    def _append(self, event: dict[str, Any]) -> None:
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()
        self._apply(event)

    def _apply(self, event: Mapping[str, Any]) -> None:
        run = event.get("participant", ""), event.get("turn", 0)
        if event["event"] == "start":
            self._runs[run] = {}
            self.ceilings.append(Ceiling(**event["ceiling"]))
        elif event["event"] == "sample":
            self._runs[run].setdefault(event["figure"], []).append(event["value"])
        elif event["event"] == "end":
            self.finished.add(run)


def _parse(line: str) -> dict[str, Any] | None:
    """The event in a line; None for a line that was cut off."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
