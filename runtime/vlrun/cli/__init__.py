"""The ``vlrun`` command. Nothing is imported before Ctrl+C is handled and the standard streams are open."""

from __future__ import annotations


def main() -> None:
    """Run a command. An error prints one sentence and exits with a documented code."""
    from vlrun.cli.startup import end_imports_on_interrupt, open_standard_streams

    end_imports_on_interrupt()
    open_standard_streams()
    from vlrun.cli.commands import run

    run()
