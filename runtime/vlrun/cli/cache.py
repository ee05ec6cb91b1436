"""``vlrun cache``: shows, checks and clears what vlrun keeps in the user's cache folder."""

from __future__ import annotations

import click

from vlrun.cli.output import print_text
from vlrun.cli.terminal import print_note
from vlrun.errors import OutputError
from vlrun.storage.cache_paths import HISTORY, KINDS

KIND = click.Choice([*KINDS, HISTORY])
CONTENTS = {**KINDS, HISTORY: "questions in vlrun chat"}

EPILOG = f"Kinds: {', '.join(f'{kind} ({content})' for kind, content in CONTENTS.items())}."


@click.group(epilog=EPILOG)
def cache() -> None:
    """Show, check or clear what vlrun keeps on disk."""


@cache.command()
def show() -> None:
    """Print the files and bytes of each kind."""
    from vlrun.storage import cache_paths, inspection

    for found in inspection.usage():
        print_text(f"{found.kind:12} {found.files:5} files {found.nbytes:15,} bytes  {found.folder}")
    for note in cache_paths.distrusted():
        print_note(note)


@cache.command()
def verify() -> None:
    """Read every file, and remove those that are damaged.

    A removed file is computed again when it is needed.
    """
    from vlrun.storage import cache_paths, inspection

    kept = 0
    for found in inspection.usage():
        bad = list(inspection.damaged(found.kind))
        for path, reason in bad:
            removed = inspection.remove(path)
            kept += not removed
            print_note(f"{'removed' if removed else 'cannot remove'} '{path}': {reason}")
        click.echo(f"{found.kind:12} {found.files:5} files: {f'{len(bad)} damaged' if bad else 'intact'}")
        for path in inspection.foreign(found.kind):
            print_note(f"'{path}' was not written by vlrun: it is left alone")
    for note in cache_paths.distrusted():
        print_note(note)
    if kept:
        raise OutputError(f"{kept} damaged files could not be removed")


@cache.command()
@click.argument("kinds", nargs=-1, type=KIND, metavar="[KIND]...")
def clear(kinds: tuple[str, ...]) -> None:
    """Remove the data of each KIND; without any, all but the chat history."""
    from vlrun.storage import inspection

    kept = sum(inspection.clear(kind) for kind in kinds or KINDS)
    if kept:
        raise OutputError(f"{kept} files could not be removed")
