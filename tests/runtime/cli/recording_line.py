"""A progress line that remembers what it was given."""

from __future__ import annotations

from vlrun.cli.progress_line import Describe, ProgressLine


class RecordingLine(ProgressLine):
    """Keeps what is shown, "" for a line that is cleared."""

    def __init__(self) -> None:
        super().__init__(wanted=False)
        self.active = True
        self.shown: list[str] = []

    def show(self, describe: Describe) -> None:
        self.shown.append(describe())

    def clear(self) -> None:
        self.shown.append("")
