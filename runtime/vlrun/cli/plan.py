"""``vlrun plan``: what a question costs before it is asked. Knows click."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlrun.cli import options as option
from vlrun.cli.ask import split
from vlrun.cli.images import ImageOptions, focus, open_images, untold
from vlrun.cli.terminal import printable
from vlrun.errors import OptionError

if TYPE_CHECKING:
    from vlrun.perf.estimate import CostEstimate
    from vlrun.perf.profile import SpeedProfile
    from vlrun.types.options import Options

MIB = 2**20
PROBE_SIDE = 512
"""Of the image that is looked at to measure a box for the first time, in pixels."""
PROBE_TOKENS = 24


@click.command(options_metavar="[OPTIONS]")
@click.argument("words", nargs=-1, metavar="IMAGE... [QUESTION]")
@option.asking
@focus
@option.sampling
@option.loading
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(
    words: tuple[str, ...],
    asking: option.TaskOptions,
    focus: ImageOptions,
    options: Options,
    loading: option.ModelOptions,
    as_json: bool,
) -> None:
    """Tell what a question about each IMAGE together would cost: visual tokens, memory, and seconds on this box.

    The seconds come from what was measured here before; the first time, the model is loaded and asked once.
    """
    names, questions = split(words)
    from vlrun import manifest as manifests
    from vlrun.embedded import FOLDER
    from vlrun.perf import estimate as planning
    from vlrun.prompt.builder import user_turn
    from vlrun.tasks.request import check_images

    inquiry = asking.inquiry(questions[0])
    if not inquiry.plain:
        raise OptionError("a plan tells of one question: leave out --tiles, --votes and --steps")
    check_images(inquiry, len(names))
    shown = open_images(names, focus)
    folder = loading.model or FOLDER
    manifests.read(folder)
    speed = _speed(folder, loading)
    asked = inquiry.options(options)
    turns = [user_turn([one.image for one in shown], inquiry.questions()[-1])]
    planned = planning.plan(folder, turns, asked, speed, loading.room.context, loading.hints.kv_precision or "u8")
    for note in untold(planned.notes, shown):
        click.echo(printable(f"vlrun: {note}"), err=True)
    click.echo(json.dumps(asdict(planned)) if as_json else _words(planned, [one.image.size for one in shown]))


def _speed(folder: Path, loading: option.ModelOptions) -> SpeedProfile:
    """What is known of this box and model, measured now if nothing is."""
    from vlrun import manifest as manifests
    from vlrun.perf import profile as speed

    fingerprint, hints = manifests.fingerprint(folder), str(loading.hints)
    known = speed.known(fingerprint, hints)
    if known.prefill is None or not known.vision:
        click.echo("vlrun: nothing was measured here with this model yet: it is loaded and asked once", err=True)
        speed.learn(fingerprint, hints, _measured(loading))
        known = speed.known(fingerprint, hints)
    return known


def _measured(loading: option.ModelOptions) -> SpeedProfile:
    import numpy as np

    from vlrun.perf import profile as speed
    from vlrun.types.cache_config import CacheConfig
    from vlrun.types.options import Options

    ramp = np.linspace(0, 255, PROBE_SIDE).astype(np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], ramp[::-1, None]), -1)
    with replace(loading, room=CacheConfig()).load() as vlm:
        vlm.wait()
        answer = vlm.ask(np.ascontiguousarray(image), options=Options(max_tokens=PROBE_TOKENS))
        return speed.of_answer(answer, vlm.vision_seconds)


def _words(planned: CostEstimate, sizes: list[tuple[int, int]]) -> str:
    from vlrun.perf.estimate import PLANNED_ANSWER

    lines = [
        f"image  {width} x {height}, seen as {seen.width} x {seen.height}: {seen.tokens} visual tokens"
        for (width, height), seen in zip(sizes, planned.images, strict=True)
    ]
    return "\n".join(
        [
            *lines,
            f"prompt   {planned.prompt_tokens} tokens",
            f"memory   about {planned.memory / MIB:,.0f} MiB at the peak, {planned.kv_memory / MIB:.0f} of KV cache",
            f"load     {_seconds(planned.load)}",
            f"TTFT     {_seconds(planned.ttft)}, of an image that is new",
            f"answer   {_seconds(planned.answer)} more for {PLANNED_ANSWER} tokens",
        ]
    )


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"about {value:.1f} s"
