"""``vlrun pull``: downloads a model from a hub into the store."""

from __future__ import annotations

import importlib
import json
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vlrun.cli.default_model import use_first
from vlrun.cli.installation import can_export, install_command, missing_packages, program
from vlrun.cli.models import STORE, open_store
from vlrun.cli.option_groups import option_group
from vlrun.cli.parameter_types import NAME
from vlrun.cli.progress_line import ProgressLine
from vlrun.cli.terminal import print_error, print_note
from vlrun.errors import OptionError

if TYPE_CHECKING:
    from vlrun.models.hub.pull import Convert, Pulled
    from vlrun.models.store.store import ModelStore

LOG_SECONDS = 30.0
"""Between two lines about the progress where stderr is no terminal."""

EPILOG = """\b
Examples:
  vlrun pull qwen3-vl-2b
  vlrun pull Qwen/Qwen3-VL-4B-Instruct --weights int4
  vlrun pull OWNER/NAME@REVISION --name shelves

docs/models.md describes sources, tokens, mirrors, and machines without a network."""


class _Pull(click.Command):
    """Lists the short names at the end of the help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the short names and the epilog."""
        from vlrun.models.hub.reference import aliases

        with formatter.section("Short names"):
            formatter.write_dl(list(aliases().items()))
        super().format_epilog(ctx, formatter)


@click.command(cls=_Pull, epilog=EPILOG)
@click.argument("repository", type=NAME, metavar="REPO[@REVISION]")
@click.option(
    "--weights",
    type=click.Choice(["int8", "int4", "fp16"]),
    help="Precision that a PyTorch checkpoint is converted to. [default: int8]",
)
@click.option("--name", type=NAME, metavar="NAME", help="Name in the store. [default: that of the repository]")
@click.option("--progress/--no-progress", default=True, help="Show the progress. [default: yes]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@option_group("store", STORE, open_store)
def pull(
    repository: str, weights: str | None, name: str | None, progress: bool, as_json: bool, store: ModelStore
) -> None:
    """Download a model into the store, resumed and checked.

    REPO is a short name, or OWNER/NAME on the hub. What is ready for vlrun is used as it is; a PyTorch checkpoint is
    converted, with the packages of vlrun export. The same command goes on where an earlier one stopped.
    """
    try:
        from vlrun.models.hub.client import Hub
    except ImportError as error:
        raise OptionError(missing_packages("pull", "hub"), error) from error
    from vlrun.models.hub.pull import Pull
    from vlrun.models.hub.reference import parse_reference

    hub = Hub()
    with ProgressLine(progress) as line:
        convert = _converter(line) if can_export() else None
        install = install_command("export")
        needs = f"run {install}{' --help' if install.endswith('export') else ''}, then the same command again"
        pulling = Pull(store, parse_reference(repository, hub.endpoint), weights, name, convert, needs)

        def waiting() -> None:
            with line.paused():
                print_note(f"another 'vlrun pull' of '{pulling.name}' is running: waiting for it")
            pulling.progress.step = f"waiting for another pull of {pulling.name}"

        @contextmanager
        def converting() -> Iterator[None]:
            line.clear()
            yield
            line.show(pulling.progress.describe)

        line.show(pulling.progress.describe)
        with _logged(pulling.progress.describe, wanted=progress and not line.active):
            pulled = pulling.run(hub, waiting, converting)
    _report(pulled, as_json)
    use_first(store, pulled.name)
    if not as_json:
        command = f'{program()} ask --model {shlex.quote(pulled.name)} photo.jpg "What is shown here?"'
        print_error(f"\nNext:\n  {command}")


def _report(pulled: Pulled, as_json: bool) -> None:
    source = pulled.source
    if as_json:
        described = {"name": pulled.name, "folder": str(pulled.folder), "origin": source.origin}
        click.echo(json.dumps({**described, "commit": source.commit, "new": pulled.is_new}))
        return
    nbytes = sum(entry.size for entry in source.files.values())
    state = "complete" if pulled.is_new else "up to date"
    click.echo(f"{pulled.name}: {state}, {len(source.files)} files, {nbytes:,} bytes, from {source.description}")


@contextmanager
def _logged(describe: Callable[[], str], wanted: bool) -> Iterator[None]:
    """Print the progress to a log now and then: on a slow network a pull takes hours."""
    stop = threading.Event()

    def log() -> None:
        printed = ""
        while not stop.wait(LOG_SECONDS):
            if (text := describe()) != printed:
                print_note(text)
                printed = text

    if wanted:
        threading.Thread(target=log, name="vlrun-progress", daemon=True).start()
    try:
        yield
    finally:
        stop.set()


def _converter(line: ProgressLine) -> Convert:
    """Return what converts a checkpoint. The runtime must not import the export, so the import is by name."""

    def convert(checkpoint: Path, out: Path, weights: str) -> object:
        export: Any = importlib.import_module("vlrun_export.export")
        progress_lines: Any = importlib.import_module("vlrun_export.progress_lines")
        return export.export_checkpoint(checkpoint, out, weights=weights, progress=progress_lines.ProgressLines(line))

    return convert
