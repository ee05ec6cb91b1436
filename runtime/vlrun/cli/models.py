"""``vlrun models``: lists, shows, checks, copies and removes the models of the store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vlrun.cli import default_model
from vlrun.cli.option_groups import OptionTable, option_group
from vlrun.cli.parameter_types import FOLDER, MODEL, NAME
from vlrun.cli.progress_line import ProgressLine, percent_of
from vlrun.cli.terminal import print_note, printable
from vlrun.errors import ModelError, OptionError

if TYPE_CHECKING:
    from vlrun.models.store.store import ModelStore

STORE: OptionTable = {
    "store": {
        "type": FOLDER,
        "metavar": "DIR",
        "help": "Folder of the store. [default: VLRUN_MODELS, or the user's data folder]",
    },
}
COLUMNS = ("name", "family", "format", "precision", "size", "backend", "tuned")


def open_store(store: Path | None = None) -> ModelStore:
    """Return the store that an option, a variable or the platform names. Raises ModelNotFound."""
    from vlrun.models.store.store import ModelStore

    return ModelStore.open(store)


with_store = option_group("store", STORE, open_store)
with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(invoke_without_command=True)
@with_store
@with_json
@click.pass_context
def models(ctx: click.Context, store: ModelStore, as_json: bool) -> None:
    """List the models of the store, or work with them.

    The column tuned has the estimated seconds of a question with the result of vlrun tune. The default model has a *.
    """
    ctx.obj = store
    if ctx.invoked_subcommand is None:
        _print_list(store, as_json)


@models.command()
@click.argument("name", type=MODEL, metavar="NAME")
@with_json
@click.pass_obj
def show(store: ModelStore, name: str, as_json: bool) -> None:
    """Print the facts, the source and the files of a model."""
    from vlrun.models.store.source import read_source
    from vlrun.models.store.transfer import expected_files

    folder = store.get(name)
    facts, source = _facts(folder, default_model.default_name()), read_source(folder)
    files = {file: None if entry is None else asdict(entry) for file, entry in expected_files(folder).items()}
    described = {
        **facts,
        "folder": str(folder),
        "origin": source.origin if source else None,
        "revision": source.revision if source else None,
        "commit": source.commit if source else None,
        "files": files,
    }
    if as_json:
        click.echo(json.dumps(described))
        return
    for key, value in described.items():
        if key == "files":
            for file, entry in files.items():
                size, sha256 = (f"{entry['size']:,}", entry["sha256"]) if entry else ("", "")
                click.echo(printable(f"{'file':12} {file:36} {size:>15} {sha256}"))
        else:
            click.echo(printable(f"{key:12} {_text(value)}"))


@models.command()
@click.argument("names", type=MODEL, nargs=-1, metavar="[NAME]...")
@click.pass_obj
def verify(store: ModelStore, names: tuple[str, ...]) -> None:
    """Check the size and SHA-256 of every file of each model; without a NAME, of all models."""
    from vlrun.models.folder_facts import describe
    from vlrun.models.store.transfer import verify_model

    damaged: ModelError | None = None
    for name in names or store.names():
        try:
            folder = store.get(name)
            with _reporting(f"checking {name}", describe(folder).nbytes) as report:
                count = verify_model(folder, report)
            click.echo(f"{folder.name}: {count} files, all as pulled or added")
        except ModelError as error:
            if len(names) == 1:
                raise
            print_note(f"{name}: {error}")
            damaged = error
    if damaged is not None:
        raise type(damaged)("not all models are intact")


@models.command()
@click.argument("names", type=MODEL, nargs=-1, required=True, metavar="NAME...")
@click.option("--force", is_flag=True, help="Also if a running vlrun has loaded it; that one goes on with it.")
@click.pass_obj
def rm(store: ModelStore, names: tuple[str, ...], force: bool) -> None:
    """Remove models, or what is there of an unfinished pull."""
    for name in names:
        removed = store.remove(name, force=force)
        click.echo(f"removed {removed}")
        default_model.forget(store, removed)


@models.command()
@click.argument("name", type=MODEL, required=False, metavar="[NAME]")
@click.option("--unset", is_flag=True, help="Let no model be the default.")
@click.pass_obj
def default(store: ModelStore, name: str | None, unset: bool) -> None:
    """Make NAME the model of commands without --model; without NAME, print it."""
    if unset and name is not None:
        raise OptionError("give either NAME or --unset")
    if name is None and not unset:
        click.echo(printable(default_model.default_name() or "none: commands without --model use the demo model"))
        return
    folder = None if name is None else store.get(name)
    usual = default_model.is_usual(store)
    default_model.set_default(None if folder is None else folder.name if usual else str(folder))


@models.command()
@click.argument("names", type=MODEL, nargs=-1, metavar="[NAME]...")
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.pass_obj
def copy(store: ModelStore, names: tuple[str, ...], folder: Path) -> None:
    """Copy models into DIR, such as a USB stick, each to a folder with its name; without a NAME, the default model.

    Every file is checked while it is read, and read back. vlrun models add takes the folder into another store.
    """
    from vlrun.models.folder_facts import describe
    from vlrun.models.store.transfer import copy_model

    chosen = names or tuple(filter(None, (default_model.default_name(),)))
    if not chosen:
        raise OptionError("there is no default model: name the models to copy")
    for name in chosen:
        source = store.get(name)
        with _reporting(f"copying {name}", describe(source).nbytes) as report:
            target = copy_model(source, folder, report)
        click.echo(f"copied {printable(str(target))}")


@models.command()
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--name", type=NAME, metavar="NAME", help="Name in the store. [default: that of the folder]")
@click.pass_obj
def add(store: ModelStore, folder: Path, name: str | None) -> None:
    """Copy the model folder DIR into the store, if vlrun can load it and its files are intact."""
    from vlrun.models.folder_facts import describe
    from vlrun.models.store.transfer import add_model

    with _reporting(f"adding {folder.name}", describe(folder).nbytes) as report:
        added = add_model(store, folder, name, report)
    click.echo(f"added {added.name}")
    default_model.use_first(store, added.name)


def _print_list(store: ModelStore, as_json: bool) -> None:
    chosen = default_model.default_name()
    found = [_facts_or_error(store.folder / name, chosen) for name in store.names()]
    if as_json:
        click.echo(json.dumps(found))
        return
    usable = [facts for facts in found if "error" not in facts]
    rows = [[_text(facts[column]) for column in COLUMNS] for facts in usable]
    for row, facts in zip(rows, usable, strict=True):
        row[0] += " *" if facts["default"] else ""
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    for row in [list(COLUMNS), *rows] if rows else []:
        click.echo("  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip())
    for facts in found:
        if "error" in facts:
            print_note(str(facts["error"]))
    for left in store.unfinished():
        print_note(f"'{left.name}' is not complete ({left.nbytes:,} bytes so far): pull it again, or remove it")
    if not found:
        from vlrun.models.hub.reference import aliases

        print_note(f"no models in '{store.folder}': 'vlrun pull {next(iter(aliases()))}' downloads one")


def _facts_or_error(folder: Path, chosen: str | None) -> dict[str, Any]:
    try:
        return _facts(folder, chosen)
    except ModelError as error:
        return {"name": folder.name, "error": str(error)}


def _facts(folder: Path, chosen: str | None) -> dict[str, Any]:
    """Return what a listing shows of a model. Raises ModelError."""
    from vlrun.models.folder_facts import describe

    facts = describe(folder)
    return {
        "name": folder.name,
        "family": facts.family,
        "format": facts.format,
        "layout": facts.layout,
        "precision": facts.precision,
        "size": facts.nbytes,
        "backend": facts.backend,
        "tuned": _tuned_seconds(facts.fingerprint),
        "default": (chosen or "").lower() == folder.name.lower(),
    }


def _tuned_seconds(fingerprint: str) -> float | None:
    """Return the estimated seconds of a question with the result of ``vlrun tune``; None without one."""
    from vlrun.storage import cache_paths

    tuned = cache_paths.tuned_hints()
    if not (tuned.is_dir() and any(tuned.iterdir())):
        return None  # OpenVINO, which knows the processor, is not loaded in vain
    from vlrun.backends.openvino.tuned import load_tuned

    result = load_tuned(fingerprint, "CPU")
    return None if result is None else result.seconds


def _text(value: object) -> str:
    """Return a fact as a listing shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f} s"
    if isinstance(value, int):
        return f"{value / 1e9:.2f} GB" if value >= 10**9 else f"{value / 1e6:.1f} MB"
    return str(value) if value else "-"


@contextmanager
def _reporting(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of reading ``total`` bytes; yield what counts them."""
    done, began = 0, time.monotonic()

    def count(nbytes: int) -> None:
        nonlocal done
        done += nbytes

    def describe() -> str:
        share = min(1.0, done / max(total, 1))
        left = (time.monotonic() - began) * (1 - share) / share if share else 0
        return percent_of(label, share, left)

    with ProgressLine() as line:
        line.show(describe)
        yield count
