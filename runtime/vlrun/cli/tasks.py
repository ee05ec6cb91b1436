"""``vlrun tasks``: what can be asked by name. Knows click."""

from __future__ import annotations

from pathlib import Path

import click

from vlrun.cli.terminal import printable


@click.command()
@click.argument("name", required=False)
@click.option("--tasks", type=click.Path(path_type=Path), metavar="FILE", help="Tasks of your own, as TOML.")
def tasks(name: str | None, tasks: Path | None) -> None:
    """List the tasks for `vlrun ask --task`, or show one with its prompts and its form."""
    from vlrun.tasks.definition import built_in, find, load_tasks

    known = load_tasks(tasks) if tasks else built_in()
    if name is None:
        width = max(len(word) for word in known)
        for task, what in known.items():
            needs = [
                f"--{kind} A,B" for kind, need in (("items", what.items), ("fields", what.fields)) if need != "none"
            ]
            click.echo(printable(f"{task:{width}}  {what.about}{f' ({needs[0]})' if needs else ''}"))
        return
    chosen = find(name, known)
    click.echo(printable(chosen.about))
    for language, prompt in chosen.prompt.items():
        click.echo(printable(f"{language}: {prompt}"))
    for language, prompt in chosen.steps.items():
        click.echo(printable(f"{language}, with --steps first: {prompt}"))
    if chosen.image_tokens:
        click.echo("visual tokens: {} to {}".format(*chosen.image_tokens))
    if chosen.schema:
        click.echo(printable(f"form: {' '.join(chosen.schema.split())}"))
