"""Evaluation of the tiny model as its users meet it: exported, in FP32 and INT8, asked through the runtime.

    python -m training.evaluate MODEL [--out scores.json] [--scenes N] [--easy N] [--keep FOLDER]
                                         [--processes N]

``MODEL`` is a checkpoint, which is exported first (``--keep`` leaves its INT8 model folder there), or a model folder,
which is evaluated alone. The scenes have seeds that training never sees and are larger than what the model sees, so
that resizing is the runtime's own. Knows the runtime; does not know training.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import tempfile
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
from training.calling import conversations, result_of, toolbox_for
from training.easy import load_easy
from training.inquiries import Turns, inquiries
from training.pages import copying
from training.pairs import PAIR_DOMAINS, about_pairs
from training.questions import Exchange, exchanges
from training.report import Judged, markdown, tables, targets
from training.scenes import HELD_OUT_SEED, draw_scene
from training.scores import score_answer
from training.toolbox import Toolbox
from training.wording import SELF
from vlrun import manifest
from vlrun.types.answer import last_of
from vlrun.types.turn import ToolChoice, Turn
from vlrun.vision.patches import fit

SIZES = ((640, 480), (512, 512), (800, 450), (480, 640), (384, 384), (720, 480), (640, 640), (400, 640))
"""Width and height of the held-out images."""

DOMAINS = {"shelf": 0.4, "shapes": 0.16, "tag": 0.22, "sign": 0.22}
ASKED = {"shelf": 12, "shapes": 8, "tag": 3, "sign": 3}
"""Questions about each scene; those asked before are skipped."""

TASKS_ASKED, TURNS_ASKED = 4, 3
"""Of each scene: questions as tasks ask them, and turns of a conversation."""

PAIRS, ASKED_OF_PAIRS = 200, 4
"""Pairs of images, each of its own size, and questions about each."""

PAGES = 100
"""Pages to be copied."""

CALLING, CONVERSATIONS = 120, 3
"""Scenes with tools, as many of each number of tools, and conversations about each."""

SCENES, EASY = 600, 9673
"""How many scenes and how many of easy-VQA's test questions are asked (it has 9,673)."""

OPTIONS = vlrun.Options(temperature=0, max_tokens=256)
EXACT = vlrun.Hints(decoder_precision="f32", vision_precision="f32", kv_precision="f32", group_size=0)
COMPARE_EVERY = 4
"""Of so many questions one is also scored by both models, position by position."""
REPORT_EVERY = 500


@dataclass(frozen=True)
class Work:
    """What one process does: every ``parts``-th scene and easy-VQA question from ``part`` on, with each folder."""

    folders: dict[str, Path]
    scenes: int
    easy: int
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class Asked:
    """Questions of one conversation with their true answers, the images they are about, if any, and the tools that
    may be called.
    """

    images: tuple[Image.Image, ...]
    turns: Turns
    box: Toolbox | None = None


@dataclass(frozen=True)
class Closeness:
    """How near one model's probabilities are to another's: sums over ``positions`` of answers."""

    kl: float = 0.0
    agreed: int = 0
    positions: int = 0

    def __add__(self, other: Closeness) -> Closeness:
        return Closeness(self.kl + other.kl, self.agreed + other.agreed, self.positions + other.positions)


def held_out(vlm: vlrun.VLM, work: Work) -> Iterator[Asked]:
    """Questions about held-out scenes, about images of easy-VQA's test split at their own size, and about none."""
    for number in range(work.scenes)[work.part :: work.parts]:
        rng = np.random.default_rng([HELD_OUT_SEED, number])
        domain = str(rng.choice(list(DOMAINS), p=list(DOMAINS.values())))
        drawn = SIZES[int(rng.integers(len(SIZES)))]
        scene = draw_scene(domain, seen_size(vlm, drawn), rng, drawn=drawn)
        for exchange in _distinct(exchanges(scene, rng), ASKED[domain]):
            yield Asked((scene.image,), (exchange,))
        yield from (Asked((scene.image,), turns) for turns in islice(inquiries(scene, rng), TASKS_ASKED))
        yield Asked((scene.image,), tuple(islice(exchanges(scene, rng), TURNS_ASKED)))
    yield from (Asked(*pair) for number in range(PAIRS)[work.part :: work.parts] for pair in _pair(vlm, number))
    for number in range(CALLING)[work.part :: work.parts]:
        yield from _calling(vlm, number)
    yield from islice(_easy(), work.part, work.easy, work.parts)
    for number in range(PAGES)[work.part :: work.parts]:
        yield Asked((), (copying(np.random.default_rng([HELD_OUT_SEED, number])),))
    if work.part == 0:
        for language, (questions, answer) in SELF.items():
            yield from (Asked((), (Exchange("self", language, question, answer),)) for question in questions)


def _pair(vlm: vlrun.VLM, number: int) -> Iterator[tuple[tuple[Image.Image, ...], Turns]]:
    """Two held-out scenes of one domain, and questions about both."""
    rng = np.random.default_rng([HELD_OUT_SEED + 2, number])
    domain = str(rng.choice(list(PAIR_DOMAINS), p=list(PAIR_DOMAINS.values())))
    sizes = [SIZES[int(rng.integers(len(SIZES)))] for _ in range(2)]
    scenes = [draw_scene(domain, seen_size(vlm, drawn), rng, drawn=drawn) for drawn in sizes]
    images = tuple(scene.image for scene in scenes)
    yield from ((images, (exchange,)) for exchange in _distinct(about_pairs(scenes, rng), ASKED_OF_PAIRS))


def _calling(vlm: vlrun.VLM, number: int) -> Iterator[Asked]:
    """Conversations about a held-out scene, with tools."""
    rng = np.random.default_rng([HELD_OUT_SEED + 4, number])
    drawn = SIZES[int(rng.integers(len(SIZES)))]
    scene = draw_scene(
        str(rng.choice(list(DOMAINS), p=list(DOMAINS.values()))), seen_size(vlm, drawn), rng, drawn=drawn
    )
    box = toolbox_for(scene, 1 + number % 3, rng)
    yield from (Asked((scene.image,), turns, box) for turns in islice(conversations(scene, box, rng), CONVERSATIONS))


def seen_size(vlm: vlrun.VLM, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height that the runtime gives an image of ``size`` before the model sees it."""
    vision, limits = vlm.manifest.vision, vlm.manifest.preprocessing
    height, width = fit(size[1], size[0], vision.patch * vision.merge, limits.min_pixels, limits.max_pixels)
    return width, height


def judge(vlm: vlrun.VLM, asked: Asked) -> Iterator[Judged]:
    """Ask one question after the other, and compare with the truth. Those that follow others count as turns."""
    if asked.box:
        yield from _judge_calls(vlm, asked, asked.box)
        return
    conversation = vlrun.Conversation(vlm, options=OPTIONS)
    images: Sequence[Image.Image] = asked.images
    for number, truth in enumerate(asked.turns):
        answer = conversation.ask(truth.question, list(images))
        score = score_answer(truth.task, answer.text, truth.answer) if answer.finish_reason == "stop" else 0.0
        yield Judged("turn" if number else truth.task, truth.language, truth.answer, score)
        images = ()


def _judge_calls(vlm: vlrun.VLM, asked: Asked, box: Toolbox) -> Iterator[Judged]:
    """The same with tools, as a client goes on: with the model's own calls. What follows a wrong answer is wrong too.
    Calls are asked for twice, once required.
    """
    turns = [Turn("system", (box.system,))] if box.system else []
    shown, right = [vlrun.open_image(image) for image in asked.images], True
    for truth in asked.turns:
        result = result_of(truth.question)
        turns.append(Turn("user", (*shown, truth.question)) if result is None else Turn("tool", (result,)))
        shown = []
        task = truth.task if truth.task in ("tool_call", "tool_result") else "tool_plain"
        if task == "tool_call":
            forced = last_of(vlm.chat(turns, OPTIONS, box.described, ToolChoice("required")))
            yield Judged("tool_required", truth.language, truth.answer, score_answer(task, forced.text, truth.answer))
        score = 0.0
        if right:
            answer = last_of(vlm.chat(turns, OPTIONS, box.described))
            score = score_answer(truth.task, answer.text, truth.answer)
            turns.append(Turn("assistant", () if answer.tool_calls else (answer.text,), answer.tool_calls))
        right = score == 1
        yield Judged(task, truth.language, truth.answer, score)


def compare(vlm: vlrun.VLM, reference: vlrun.VLM, asked: Asked) -> Closeness:
    """Both models' probabilities along the true answer."""
    size = vlm.manifest.text.vocab_size
    ours, theirs = (
        model.score(list(asked.images), asked.turns[0].question, asked.turns[0].answer)[:, :size].astype(np.float64)
        for model in (vlm, reference)
    )
    p, q = log_softmax(theirs), log_softmax(ours)
    kl = float((np.exp(p) * (p - q)).sum())
    return Closeness(kl, int((p.argmax(-1) == q.argmax(-1)).sum()), len(p))


def log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Logarithms of the probabilities, row by row."""
    shifted = logits - logits.max(-1, keepdims=True)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def answer_all(work: Work) -> tuple[dict[str, list[Judged]], Closeness]:
    """One process' part: all answers by precision, and how close INT8 is to FP32 if both are there."""
    models = {
        name: vlrun.load(folder, hints=replace(EXACT if name == "fp32" else vlrun.Hints(), threads=1))
        for name, folder in work.folders.items()
    }
    judged: dict[str, list[Judged]] = {name: [] for name in models}
    close = Closeness()
    for number, asked in enumerate(held_out(list(models.values())[-1], work)):
        for name, vlm in models.items():
            judged[name] += judge(vlm, asked)
        if len(models) == 2 and number % COMPARE_EVERY == 0 and not asked.box:
            close += compare(models["int8"], models["fp32"], asked)
        if number % REPORT_EVERY == REPORT_EVERY - 1 and work.part == 0:
            print(f"{number + 1} questions asked by each of {work.parts} processes", flush=True)
    return judged, close


def evaluate(folders: Mapping[str, Path], scenes: int, easy: int, processes: int) -> dict[str, Any]:
    """Scores of model folders by the name of their precision; with ``fp32`` and ``int8``, also how close they are."""
    works = [Work(dict(folders), scenes, easy, part, processes) for part in range(processes)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        parts = list(pool.map(answer_all, works))
    judged = {name: [answer for part, _ in parts for answer in part[name]] for name in folders}
    last = list(folders)[-1]
    scores: dict[str, Any] = {
        "model": manifest.fingerprint(folders[last]),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "scenes": scenes,
        "questions": len(judged[last]),
        "precisions": {name: tables(answers) for name, answers in judged.items()},
    }
    close = sum((closeness for _, closeness in parts), Closeness())
    return scores | (_closeness(scores, close) if close.positions else {})


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate, print the tables, and write them down."""
    parser = argparse.ArgumentParser(
        description="Evaluate a tiny checkpoint in FP32 and INT8, or a model folder alone."
    )
    parser.add_argument("model", type=Path, help="a checkpoint, or a model folder")
    parser.add_argument("--out", type=Path, help="the file to write, as JSON")
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"held-out scenes (default {SCENES})")
    parser.add_argument("--easy", type=int, default=EASY, help=f"questions of easy-VQA's test split (default {EASY})")
    parser.add_argument("--keep", type=Path, help="leave the INT8 model folder here")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many share the work")
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


def _easy() -> Iterator[Asked]:
    for image in load_easy("test"):
        yield from (Asked((image.image,), (exchange,)) for exchange in image.exchanges)


def _distinct(asked: Iterator[Exchange], most: int) -> Iterator[Exchange]:
    """The first questions, each but once; gives up after three times as many."""
    seen: dict[str, Exchange] = {}
    for exchange in islice(asked, 3 * most):
        seen.setdefault(exchange.question, exchange)
    yield from islice(seen.values(), most)


def _closeness(scores: Mapping[str, Any], close: Closeness) -> dict[str, Any]:
    kl, agreement = round(close.kl / close.positions, 6), round(close.agreed / close.positions, 5)
    return {
        "kl": kl,
        "agreement": agreement,
        "positions": close.positions,
        "targets": targets(scores["precisions"], kl, agreement),
    }


def _export(checkpoint: Path, out: Path, precision: Literal["fp32", "int8"]) -> Path:
    from vlrun_export.export import export_checkpoint

    export_checkpoint(checkpoint, out, weights=precision, vision=precision)
    return out


def _precision(folder: Path) -> str:
    """The precision of a whole folder, from its manifest."""
    made = manifest.read(folder).quantization
    return made.decoder if made.decoder == made.vision else f"{made.decoder}+{made.vision}"


if __name__ == "__main__":
    main()
