"""``vlrun plan``: estimates the cost of a question."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from vlrun.cli.arguments import split_arguments
from vlrun.cli.images import (
    ImageOptions,
    LoadedImage,
    load_images,
    read_image_headers,
    with_image_options,
    without_image_notes,
)
from vlrun.cli.options import ModelOptions, TaskOptions, with_answer_options, with_model_options, with_task_options
from vlrun.cli.parameter_types import TEXT_OR_FILE
from vlrun.cli.progress_line import timed
from vlrun.cli.terminal import print_note
from vlrun.errors import OptionError

if TYPE_CHECKING:
    from vlrun.media.clip import Clip
    from vlrun.media.image import Image
    from vlrun.media.video import PendingClip, Progress
    from vlrun.models.model_folder import ModelFolder
    from vlrun.perf.estimate import CostEstimate
    from vlrun.perf.history import SpeedHistory
    from vlrun.perf.profile import SpeedProfile
    from vlrun.types.options import Options

MIB = 2**20
PROBE_SIDE = 512
"""Pixels of the first measurement's image."""
PROBE_TOKENS = 24


@click.command(options_metavar="[OPTIONS]")
@click.argument("words", nargs=-1, type=TEXT_OR_FILE, metavar="IMAGE... [QUESTION]")
@with_task_options
@with_image_options
@with_answer_options
@with_model_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(
    words: tuple[str, ...],
    task_options: TaskOptions,
    image_options: ImageOptions,
    options: Options,
    model_options: ModelOptions,
    as_json: bool,
) -> None:
    """Estimate the cost of a question about all IMAGEs together.

    Prints visual tokens, memory and time. Times come from earlier runs on this machine; the first time, the model is
    loaded and runs once.
    """
    names, questions = split_arguments(words, clipboard=image_options.clipboard)
    from vlrun.backends.system_memory import check_memory
    from vlrun.models.model_folder import ModelFolder
    from vlrun.perf.estimate import estimate_cost, prompt_builder
    from vlrun.prompt.builder import clip_count, user_turn

    request = task_options.request(questions[0])
    if not request.is_single:
        raise OptionError("a plan needs one answer: leave out --tiles, --votes and --steps")
    pending = read_image_headers(names, image_options)
    request.check_image_count(len(pending))
    with model_options.model.named_in_errors():
        folder = ModelFolder(model_options.model.path)
    context, effective, videos = model_options.cache.context, request.options(options), clip_count(pending)

    def open_clip(clip: PendingClip, progress: Progress) -> Clip:
        return builder.open_clip(clip, effective, context, progress, videos)

    if videos:  # what is sampled of them depends on the speed of this machine
        builder = prompt_builder(folder, _measured(folder, model_options))
    with model_options.progress_line() as line:
        images = load_images(pending, image_options, line, _without_pixels, open_clip=open_clip)
    cache = replace(model_options.cache, keep_vision_encoder=False)  # as a single question has it
    for note in check_memory(folder.manifest, cache, certain=False):
        print_note(note)
    question = user_turn([loaded.image for loaded in images], request.questions()[-1])
    estimate = estimate_cost(
        folder,
        [*request.opening(), question],
        effective,
        _measured(folder, model_options),
        context,
        model_options.hints.kv_precision or "u8",
    )
    for note in without_image_notes(estimate.notes, images):
        print_note(note)
    click.echo(json.dumps(asdict(estimate)) if as_json else _format(estimate, images))


def _without_pixels(image: Image) -> Image:
    """Return an image without its pixels: a plan needs only its size."""
    from vlrun.media.image import ResizedImage

    return ResizedImage(image.rgb[:1, :1].copy(), image.sha256, image.notes, image.transform, image.label, image.size)


def _measured(folder: ModelFolder, model_options: ModelOptions) -> SpeedHistory:
    """Return the stored measurements; measure first if they are incomplete."""
    from vlrun.perf.history import load_history, record

    fingerprint, hints = folder.fingerprint, str(model_options.hints)
    history = load_history(fingerprint, hints)
    profile = history.profile(time.time())
    if profile.prefill is None or not profile.vision:
        print_note("no measurements for this model on this machine yet: loading it and running it once")
        measured = _measure(model_options)
        record(fingerprint, hints, measured)
        history = history.with_measured(measured, time.time())
    return history


def _measure(model_options: ModelOptions) -> SpeedProfile:
    import numpy as np

    from vlrun.perf.profile import SpeedProfile
    from vlrun.types.options import Options
    from vlrun.vlm import load

    ramp = np.linspace(0, 255, PROBE_SIDE).astype(np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], ramp[::-1, None]), -1)
    with model_options.progress_line() as line:
        line.show(timed(f"measuring {model_options.model.name}", None, time.monotonic()))
        with load(model_options.model.folder, hints=model_options.hints) as vlm:
            answer = vlm.ask(np.ascontiguousarray(image), options=Options(max_tokens=PROBE_TOKENS))
            return SpeedProfile.from_answer(answer, vlm.image_encoder.seconds)


def _format(estimate: CostEstimate, images: Sequence[LoadedImage]) -> str:
    from vlrun.media.clip import Clip
    from vlrun.perf.estimate import ANSWER_TOKENS

    lines, estimated = [], iter(estimate.images)
    for loaded in images:
        width, height = loaded.image.size
        pairs = len(loaded.image.pairs) if isinstance(loaded.image, Clip) else 1
        resized = next(itertools.islice(estimated, pairs - 1, None))  # all pairs of a video have one size
        size = f"{width} x {height}, resized to {resized.width} x {resized.height}"
        kind = f"video    {pairs} pairs of frames, " if isinstance(loaded.image, Clip) else "image    "
        lines.append(f"{kind}{size}: {pairs * resized.tokens} visual tokens")
    return "\n".join(
        [
            *lines,
            f"prompt   {estimate.prompt_tokens} tokens",
            f"memory   about {estimate.memory / MIB:,.0f} MiB peak, {estimate.kv_memory / MIB:.0f} of it KV cache",
            f"load     {_seconds(estimate.load)}",
            f"TTFT     {_seconds(estimate.ttft)} if the images are new",
            f"answer   {_seconds(estimate.answer)} for {ANSWER_TOKENS} tokens",
        ]
    )


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"about {value:.1f} s"
