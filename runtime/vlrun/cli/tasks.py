"""``vlrun tasks``: lists the tasks, or shows one."""

from __future__ import annotations

from pathlib import Path

import click

from vlrun.cli.parameter_types import FILE, TASK
from vlrun.cli.terminal import printable


@click.command()
@click.argument("name", type=TASK, required=False)
@click.option("--tasks", type=FILE, metavar="FILE", help="TOML file with tasks of your own.")
def tasks(name: str | None, tasks: Path | None) -> None:
    """List the tasks, or show the prompts and the schema of task NAME.

    `vlrun ask --task NAME` runs a task.
    """
    from vlrun.tasks.definition import built_in_tasks, find_task, load_tasks

    known = load_tasks(tasks) if tasks else built_in_tasks()
    lines = []
    if name is None:
        width = max(map(len, known))
        for key, task in known.items():
            option = " (--items A,B)" if task.items != "none" else " (--fields A,B)" if task.fields != "none" else ""
            lines.append(f"{key:{width}}  {task.about}{option}")
    else:
        task = find_task(name, known)
        lines.append(task.about)
        lines += [f"{language}: {prompt}" for language, prompt in task.prompt.items()]
        lines += [f"{language}, first question with --steps: {prompt}" for language, prompt in task.steps.items()]
        if task.image_tokens:
            lines.append("visual tokens: {} to {}".format(*task.image_tokens))
        if task.schema:
            lines.append(f"schema: {' '.join(task.schema.split())}")
    click.echo(printable("\n".join(lines)))
