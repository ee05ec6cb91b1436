"""Evaluates the tiny model as users run it: exported to FP32 and INT8, and asked through the runtime.

    python -m training.evaluate MODEL [--out scores.json] [--scenes N] [--easy N] [--keep FOLDER] [--processes N]

``MODEL`` is a checkpoint, which is exported first (``--keep`` stores its INT8 model folder), or a model folder, which
is evaluated alone. The seeds of the scenes are never used in training. The images are larger than the model's input,
so the runtime resizes them. Rare tasks are asked more often than training asks them, so that 250 scenes give every row
of the table at least a hundred questions (but ``self``, of which there are six).
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

import vlrun
from training.clip_questions import clip_questions
from training.clips import SOURCES, clip_size, draw_clip, draw_timing
from training.copy_questions import copy_question
from training.easy_vqa import load_easy_vqa
from training.metrics import score_answer
from training.model_card import ScoredAnswer, markdown, tables, targets
from training.pair_questions import PAIR_DOMAINS, pair_questions
from training.prompt_forms import HELD_OUT_SYSTEMS
from training.qa import QAPair, Turns
from training.scene_questions import qa_pairs
from training.scenes import HELD_OUT_SEED, draw_scene
from training.task_questions import task_questions
from training.templates import SELF
from training.tool_definitions import Toolset
from training.tool_questions import draw_toolset_for, result_of, tool_conversations
from vlrun import manifest
from vlrun.media.clip import make_clip
from vlrun.media.pending_image import open_images
from vlrun.models.model_folder import ModelFolder
from vlrun.types.answer import last_of
from vlrun.types.turn import ToolChoice, Turn
from vlrun.vision.patches import fit

SIZES = ((640, 480), (512, 512), (800, 450), (480, 640), (384, 384), (720, 480), (640, 640), (400, 640))
"""Width and height of the held-out images."""

DOMAINS = {"shelf": 0.4, "shapes": 0.16, "tag": 0.22, "sign": 0.22}
ASKED = {"shelf": 12, "shapes": 8, "tag": 3, "sign": 3}
"""Distinct questions about each scene."""

TASKS_ASKED, TURNS_ASKED = 4, 3
"""Questions of tasks, and turns of a conversation, about each scene."""

CANDIDATES = 4
"""Drawn for each question that is asked."""

PAIRS, ASKED_OF_PAIRS = 200, 4
"""Pairs of images, each image with its own size, and questions about each pair."""

CLIPS, ASKED_OF_CLIPS = 150, 5
"""Clips, and distinct questions about each."""

PAGES = 100
"""Pages to copy."""

TOOL_SCENES, TOOL_CONVERSATIONS = 120, 3
"""Scenes with tools (equally many with one, two and three), and conversations about each."""

SCENES, EASY = 600, 9673
"""Scenes, and test questions of easy-VQA (it has 9,673)."""

OPTIONS = vlrun.Options(temperature=0, max_tokens=256)
EXACT = vlrun.Hints(decoder_precision="f32", vision_precision="f32", kv_precision="f32", group_size=0)
COMPARE_EVERY = 4
"""Every n-th question is also compared between both models, position by position."""
REPORT_EVERY = 500


@dataclass(frozen=True)
class Shard:
    """The work of one process: every ``parts``-th item from ``part`` on, with the model in each folder."""

    folders: dict[str, Path]
    scenes: int
    easy: int
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class EvaluationItem:
    """A conversation to evaluate: its images or clip, if any, its turns with their true answers, and its tools.

    ``form``: its only question is asked in this form, and counts as this task.
    """

    images: tuple[Image.Image | vlrun.Clip, ...]
    turns: Turns
    toolset: Toolset | None = None
    form: PromptForm | None = None


@dataclass(frozen=True)
class PromptForm:
    """A form in which clients ask: whether with a system prompt, and whether with the text before the image."""

    task: str
    system: bool = False
    text_first: bool = False


FORMS = (
    PromptForm("form_image_first"),
    PromptForm("form_system", system=True),
    PromptForm("form_text_first", text_first=True),
    PromptForm("form_text_first_system", system=True, text_first=True),
)
ASKED_IN_FORMS = 3
"""Questions about each scene that are asked in every form."""


@dataclass(frozen=True)
class Divergence:
    """How far one model is from another: sums over ``positions`` of answers."""

    kl: float = 0.0
    agreed: int = 0
    positions: int = 0

    def __add__(self, other: Divergence) -> Divergence:
        return Divergence(self.kl + other.kl, self.agreed + other.agreed, self.positions + other.positions)


def held_out(vlm: vlrun.VLM, shard: Shard) -> Iterator[EvaluationItem]:
    """Items about held-out scenes, about the test split of easy-VQA at its own size, and without images."""
    asked_so_far: Counter[str] = Counter()
    for number in range(shard.scenes)[shard.part :: shard.parts]:
        rng = np.random.default_rng([HELD_OUT_SEED, number])
        domain = str(rng.choice(list(DOMAINS), p=list(DOMAINS.values())))
        drawn = SIZES[int(rng.integers(len(SIZES)))]
        scene = draw_scene(domain, seen_size(vlm, drawn), rng, drawn=drawn)
        asked = balanced(((qa,) for qa in qa_pairs(scene, rng)), ASKED[domain], asked_so_far)
        yield from (EvaluationItem((scene.image,), turns) for turns in asked)
        order = np.random.default_rng([HELD_OUT_SEED + 5, number]).permutation(len(asked))
        chosen = [asked[place] for place in order[:ASKED_IN_FORMS]]
        yield from (EvaluationItem((scene.image,), turns, form=form) for turns in chosen for form in FORMS)
        of_tasks = balanced(task_questions(scene, rng), TASKS_ASKED, asked_so_far)
        yield from (EvaluationItem((scene.image,), turns) for turns in of_tasks)
        yield EvaluationItem((scene.image,), tuple(islice(qa_pairs(scene, rng), TURNS_ASKED)))
    for number in range(PAIRS)[shard.part :: shard.parts]:
        yield from _pair_items(vlm, number, asked_so_far)
    for number in range(CLIPS)[shard.part :: shard.parts]:
        yield from clip_items(number, asked_so_far)
    for number in range(TOOL_SCENES)[shard.part :: shard.parts]:
        yield from _tool_items(vlm, number)
    yield from islice(_easy_vqa_items(), shard.part, shard.easy, shard.parts)
    for number in range(PAGES)[shard.part :: shard.parts]:
        yield EvaluationItem((), (copy_question(np.random.default_rng([HELD_OUT_SEED, number])),))
    if shard.part == 0:
        for language, (questions, answer) in SELF.items():
            yield from (EvaluationItem((), (QAPair("self", language, question, answer),)) for question in questions)


def _pair_items(vlm: vlrun.VLM, number: int, asked_so_far: Counter[str]) -> Iterator[EvaluationItem]:
    """Draw two held-out scenes of one domain, and questions about both."""
    rng = np.random.default_rng([HELD_OUT_SEED + 2, number])
    domain = str(rng.choice(list(PAIR_DOMAINS), p=list(PAIR_DOMAINS.values())))
    sizes = [SIZES[int(rng.integers(len(SIZES)))] for _ in range(2)]
    scenes = [draw_scene(domain, seen_size(vlm, drawn), rng, drawn=drawn) for drawn in sizes]
    images = tuple(scene.image for scene in scenes)
    asked = balanced(((qa,) for qa in pair_questions(scenes, rng)), ASKED_OF_PAIRS, asked_so_far)
    yield from (EvaluationItem(images, turns) for turns in asked)


def clip_items(number: int, asked_so_far: Counter[str]) -> Iterator[EvaluationItem]:
    """Draw a held-out clip in the frames and the size that the runtime would sample, and questions about it."""
    rng = np.random.default_rng([HELD_OUT_SEED + 6, number])
    source, timing = SOURCES[int(rng.integers(len(SOURCES)))], draw_timing(rng)
    drawn = draw_clip(clip_size(source, timing.shown), timing, rng)
    frames = [np.asarray(scene.image) for scene in drawn.scenes[: timing.shown]]
    clip = make_clip(zip(timing.seconds, frames, strict=False), source, fixed=True)
    asked = balanced(((qa,) for qa in clip_questions(drawn, rng)), ASKED_OF_CLIPS, asked_so_far)
    yield from (EvaluationItem((clip,), turns) for turns in asked)


def _tool_items(vlm: vlrun.VLM, number: int) -> Iterator[EvaluationItem]:
    """Draw conversations about a held-out scene, with tools."""
    rng = np.random.default_rng([HELD_OUT_SEED + 4, number])
    drawn = SIZES[int(rng.integers(len(SIZES)))]
    scene = draw_scene(
        str(rng.choice(list(DOMAINS), p=list(DOMAINS.values()))), seen_size(vlm, drawn), rng, drawn=drawn
    )
    toolset = draw_toolset_for(scene, 1 + number % 3, rng)
    yield from (
        EvaluationItem((scene.image,), turns, toolset)
        for turns in islice(tool_conversations(scene, toolset, rng), TOOL_CONVERSATIONS)
    )


def seen_size(vlm: vlrun.VLM, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height to which the runtime resizes an image of ``size``."""
    vision, limits = vlm.manifest.vision, vlm.manifest.preprocessing
    height, width = fit(size[1], size[0], vision.patch * vision.merge, limits.min_pixels, limits.max_pixels)
    return width, height


def score_item(vlm: vlrun.VLM, asked: EvaluationItem) -> Iterator[ScoredAnswer]:
    """Ask the questions of a conversation and score the answers; all but the first count as the task ``turn``."""
    if asked.toolset:
        yield from _score_tool_calls(vlm, asked, asked.toolset)
        return
    if asked.form:
        yield _score_form(vlm, asked, asked.form)
        return
    conversation = vlrun.Conversation(vlm, options=OPTIONS)
    images: Sequence[Image.Image | vlrun.Clip] = asked.images
    for number, truth in enumerate(asked.turns):
        answer = conversation.ask(truth.question, list(images))
        score = score_answer(truth.task, answer.text, truth.answer) if answer.finish_reason == "stop" else 0.0
        yield ScoredAnswer("turn" if number else truth.task, truth.language, truth.answer, score)
        images = ()


def _score_form(vlm: vlrun.VLM, asked: EvaluationItem, form: PromptForm) -> ScoredAnswer:
    """Score one question with a system prompt that training never uses, before or after the image, or both."""
    (image,), (truth,) = open_images(asked.images), asked.turns
    systems = HELD_OUT_SYSTEMS[truth.language]
    turns = [Turn("system", (systems[len(truth.question) % len(systems)],))] if form.system else []
    content = (truth.question, image)
    answer = last_of(vlm.chat([*turns, Turn("user", content if form.text_first else content[::-1])], OPTIONS))
    score = score_answer(truth.task, answer.text, truth.answer) if answer.finish_reason == "stop" else 0.0
    return ScoredAnswer(form.task, truth.language, truth.answer, score)


def _score_tool_calls(vlm: vlrun.VLM, asked: EvaluationItem, toolset: Toolset) -> Iterator[ScoredAnswer]:
    """Score a conversation with tools, which continues with the model's own calls.

    Everything after a wrong answer is wrong too. Calls are requested twice: free to call, and required.
    """
    turns = [Turn("system", (toolset.system,))] if toolset.system else []
    images, right = open_images(asked.images), True
    for truth in asked.turns:
        result = result_of(truth.question)
        turns.append(Turn("user", (*images, truth.question)) if result is None else Turn("tool", (result,)))
        images = []
        task = truth.task if truth.task in ("tool_call", "tool_result") else "tool_plain"
        if task == "tool_call":
            forced = last_of(vlm.chat(turns, OPTIONS, toolset.definitions, ToolChoice("required")))
            yield ScoredAnswer(
                "tool_required", truth.language, truth.answer, score_answer(task, forced.text, truth.answer)
            )
        score = 0.0
        if right:
            answer = last_of(vlm.chat(turns, OPTIONS, toolset.definitions))
            score = score_answer(truth.task, answer.text, truth.answer)
            turns.append(Turn("assistant", () if answer.tool_calls else (answer.text,), answer.tool_calls))
        right = score == 1
        yield ScoredAnswer(task, truth.language, truth.answer, score)


def compare(vlm: vlrun.VLM, reference: vlrun.VLM, asked: EvaluationItem) -> Divergence:
    """Compare the probabilities of both models along the true answer."""
    size = vlm.manifest.text.vocab_size
    ours, theirs = (
        model.score(list(asked.images), asked.turns[0].question, asked.turns[0].answer)[:, :size].astype(np.float64)
        for model in (vlm, reference)
    )
    p, q = log_softmax(theirs), log_softmax(ours)
    kl = float((np.exp(p) * (p - q)).sum())
    return Divergence(kl, int((p.argmax(-1) == q.argmax(-1)).sum()), len(p))


def log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Logarithm of the softmax of each row."""
    shifted = logits - logits.max(-1, keepdims=True)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def answer_all(shard: Shard) -> tuple[dict[str, list[ScoredAnswer]], Divergence]:
    """Evaluate one shard: all scored answers by precision, and how far INT8 is from FP32 if both are there."""
    models = {
        name: vlrun.load(folder, hints=replace(EXACT if name == "fp32" else vlrun.Hints(), threads=1))
        for name, folder in shard.folders.items()
    }
    scored: dict[str, list[ScoredAnswer]] = {name: [] for name in models}
    divergence = Divergence()
    for number, asked in enumerate(held_out(list(models.values())[-1], shard)):
        for name, vlm in models.items():
            scored[name] += score_item(vlm, asked)
        if len(models) == 2 and number % COMPARE_EVERY == 0 and not (asked.toolset or asked.form):
            divergence += compare(models["int8"], models["fp32"], asked)
        if number % REPORT_EVERY == REPORT_EVERY - 1 and shard.part == 0:
            print(f"{number + 1} questions asked by each of {shard.parts} processes", flush=True)
    return scored, divergence


def evaluate(folders: Mapping[str, Path], scenes: int, easy: int, processes: int) -> dict[str, Any]:
    """Evaluate model folders, given by precision; with ``fp32`` and ``int8``, also how far they differ."""
    shards = [Shard(dict(folders), scenes, easy, part, processes) for part in range(processes)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        parts = list(pool.map(answer_all, shards))
    scored = {name: [answer for part, _ in parts for answer in part[name]] for name in folders}
    last = list(folders)[-1]
    scores: dict[str, Any] = {
        "model": ModelFolder(folders[last]).fingerprint,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "scenes": scenes,
        "questions": len(scored[last]),
        "precisions": {name: tables(answers) for name, answers in scored.items()},
    }
    divergence = sum((divergence_of_part for _, divergence_of_part in parts), Divergence())
    return scores | (_divergence(scores, divergence) if divergence.positions else {})


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate, print the tables, and write the scores."""
    parser = argparse.ArgumentParser(
        description="Evaluate a tiny checkpoint in FP32 and INT8, or a model folder alone."
    )
    parser.add_argument("model", type=Path, help="a checkpoint, or a model folder")
    parser.add_argument("--out", type=Path, help="the file to write, as JSON")
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"held-out scenes (default {SCENES})")
    parser.add_argument("--easy", type=int, default=EASY, help=f"questions of easy-VQA's test split (default {EASY})")
    parser.add_argument("--keep", type=Path, help="store the INT8 model folder here")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="processes that share the work")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        if (options.model / manifest.MANIFEST).exists():
            folders = {_precision(options.model): options.model}
        else:
            folders = {
                "fp32": _export(options.model, Path(temporary) / "fp32", "fp32"),
                "int8": _export(options.model, options.keep or Path(temporary) / "int8", "int8"),
            }
        scores = evaluate(folders, options.scenes, options.easy, options.processes)
    if options.out:
        options.out.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    print(markdown(scores))


def _easy_vqa_items() -> Iterator[EvaluationItem]:
    for image in load_easy_vqa("test"):
        yield from (EvaluationItem((image.image,), (qa,)) for qa in image.qa_pairs)


def balanced(asked: Iterator[Turns], most: int, asked_so_far: Counter[str]) -> list[Turns]:
    """Of distinct conversations, choose those of the rarest tasks and languages so far, and count them."""
    distinct = list({turns[0].question: turns for turns in islice(asked, CANDIDATES * most)}.values())
    chosen = []
    for _ in range(min(most, len(distinct))):
        turns = min(distinct, key=lambda one: asked_so_far[_kind(one)])
        distinct.remove(turns)
        asked_so_far[_kind(turns)] += 1
        chosen.append(turns)
    return chosen


def _kind(turns: Turns) -> str:
    return f"{turns[0].task} {turns[0].language}"


def _divergence(scores: Mapping[str, Any], divergence: Divergence) -> dict[str, Any]:
    kl, agreement = round(divergence.kl / divergence.positions, 6), round(divergence.agreed / divergence.positions, 5)
    return {
        "kl": kl,
        "agreement": agreement,
        "positions": divergence.positions,
        "targets": targets(scores["precisions"], kl, agreement),
    }


def _export(checkpoint: Path, out: Path, precision: Literal["fp32", "int8"]) -> Path:
    from vlrun_export.export import export_checkpoint

    export_checkpoint(checkpoint, out, weights=precision, vision=precision)
    return out


def _precision(folder: Path) -> str:
    """The precision of a model folder, from its manifest."""
    made = manifest.read(folder).quantization
    return made.decoder if made.decoder == made.vision else f"{made.decoder}+{made.vision}"


if __name__ == "__main__":
    main()
