"""Tables and targets of an evaluation, and the model card that shows them.

    python -m training.model_card SCORES CARD

writes the tables of SCORES (JSON) into CARD, between its two marks.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

TASK_LABELS = {
    "easy": "easy-VQA, test split",
    "count_kind": "how many of a kind",
    "count_colour_kind": "how many of a kind and colour",
    "count_items": "how many items",
    "count_shelves": "how many shelves",
    "json": "counts as JSON",
    "exists": "is there a ... (yes or no)",
    "colour": "colour of an item",
    "which_shape": "shape of a colour",
    "price": "price on a tag",
    "read": "printed word",
    "where": "box, IoU at least 0.5",
    "describe": "description, word for word",
    "count": "task count: JSON with total",
    "steps": "shelf by shelf, word for word",
    "locate": "task locate: every box, IoU at least 0.5",
    "fields": "task fields",
    "ocr": "task ocr",
    "turn": "a later turn of a conversation",
    "form_image_first": "three questions about each image: image first",
    "form_system": "the same questions: system prompt, image first",
    "form_text_first": "the same questions: text first",
    "form_text_first_system": "the same questions: system prompt, text first",
    "which_more": "two images: which has more",
    "which_has": "two images: which has a ...",
    "count_in": "two images: how many in one",
    "read_in": "two images: what one says",
    "compare": "task compare: all differences",
    "clip_turn": "clip: when an item turns a colour",
    "clip_appear": "clip: when an item appears",
    "clip_leave": "clip: when an item disappears",
    "clip_moves": "clip: what moves",
    "clip_changes": "clip: what changes its colour",
    "clip_first_colour": "clip: colour at the start",
    "clip_last_colour": "clip: colour at the end",
    "tool_call": "tools, free to call: called, name and all arguments",
    "tool_required": "tools, a call required: name and all arguments",
    "tool_plain": "tools, free to call: answered without a call",
    "tool_result": "answer to a tool's result, word for word",
    "copy": "copy of a page (no image)",
    "self": "who are you (no image)",
}
"""Label of every task, in the order of the tables."""

GOALS = {
    "easy": 0.95, "count_kind": 0.95, "count_colour_kind": 0.95, "count_items": 0.95, "price": 0.95, "read": 0.95,
    "where": 0.90,
}  # fmt: skip
"""Required share of right answers, both languages together; for counts, of those up to eight."""

CLIPS_GOAL = 0.90
"""Required share of right answers about clips. A time is right if it is that of the first frame pair that shows the
change, so it is within one interval between frames."""

MAX_COUNT = 8
COUNTS = ("count_kind", "count_colour_kind", "count_items", "count_shelves", "count_in")
"""Tasks whose answer is one number."""

MAX_INT8_LOSS = 0.005
"""Share of right answers that INT8 may cost, in the mean over the tasks with a goal; one task alone has too few
questions."""

MAX_KL, MIN_AGREEMENT = 0.01, 0.97
"""INT8 compared with FP32, mean over the positions of all answers."""

SCORES_SECTION = re.compile("(?<=<!-- scores -->\n).*?(?=<!-- end of scores -->)", re.DOTALL)
"""The generated part of a model card."""

Table: TypeAlias = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ScoredAnswer:
    """``score``: 1 for a right answer, 0 for a wrong one."""

    task: str
    language: str
    truth: str
    score: float


def tables(scored: Iterable[ScoredAnswer]) -> dict[str, Table]:
    """Share of right answers and number of questions by task and language, and for counts of a kind by true count."""
    tasks: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    counts: dict[str, list[float]] = defaultdict(list)
    for answer in scored:
        within = answer.task not in COUNTS or int(answer.truth) <= MAX_COUNT
        for language in (answer.language, "both", *(["goal"] if within else [])):
            tasks[answer.task][language].append(answer.score)
        if answer.task == "count_kind":
            counts[answer.truth].append(answer.score)
    return {
        "tasks": {task: {name: _share(s) for name, s in tasks[task].items()} for task in TASK_LABELS if task in tasks},
        "count_kind_by_truth": {truth: _share(counts[truth]) for truth in sorted(counts, key=int)},
    }


def targets(precisions: Mapping[str, Mapping[str, Table]], kl: float, agreement: float) -> dict[str, dict[str, Any]]:
    """Each target with the INT8 measurement, and whether it is met."""
    int8, fp32 = precisions["int8"]["tasks"], precisions["fp32"]["tasks"]
    found = {
        task: {"goal": goal, "measured": int8[task]["goal"]["score"], "met": int8[task]["goal"]["score"] >= goal}
        for task, goal in GOALS.items()
        if "goal" in int8.get(task, {})
    }
    if clips := [row["both"] for task, row in int8.items() if task.startswith("clip_")]:
        share = round(sum(row["score"] * row["n"] for row in clips) / sum(row["n"] for row in clips), 4)
        found["clips"] = {"goal": CLIPS_GOAL, "measured": share, "met": share >= CLIPS_GOAL}
    losses = [fp32[task]["goal"]["score"] - int8[task]["goal"]["score"] for task in found if task in GOALS]
    loss = sum(losses) / max(len(losses), 1)
    found["int8_loss"] = {"goal": MAX_INT8_LOSS, "measured": round(loss, 4), "met": round(loss, 4) <= MAX_INT8_LOSS}
    found["int8_kl"] = {"goal": MAX_KL, "measured": kl, "met": kl <= MAX_KL}
    found["int8_agreement"] = {"goal": MIN_AGREEMENT, "measured": agreement, "met": agreement >= MIN_AGREEMENT}
    return found


def markdown(scores: Mapping[str, Any]) -> str:
    """The tables in Markdown."""
    names = list(scores["precisions"])
    heads = [f"{name.upper()} {language}" for name in names for language in ("English", "Chinese")]
    lines = _rows(["task", "questions", *heads], _task_rows(scores["precisions"], names))
    truths = list(scores["precisions"][names[-1]]["count_kind_by_truth"])
    lines += ["", *_rows(["true count", *truths], _count_rows(scores["precisions"], names, truths))]
    if "targets" in scores:
        rows = [
            [name, _number(name, t["goal"]), _number(name, t["measured"]), "yes" if t["met"] else "**no**"]
            for name, t in scores["targets"].items()
        ]
        lines += ["", *_rows(["target (INT8)", "goal", "measured", "met"], rows)]
    return "\n".join(lines)


def fill_model_card(card: str, scores: Mapping[str, Any]) -> str:
    """Put the tables of ``scores`` between the marks of a model card."""
    measured = f"Measured on {scores['date']} with {scores['questions']:,} questions, through the runtime.\n\n"
    divergence = ""
    if "kl" in scores:
        divergence = (
            f"\nINT8 against FP32 over {scores['positions']:,} positions of answers: mean KL {scores['kl']:.5f}, the "
            f"same most likely token in {100 * scores['agreement']:.2f} %.\n"
        )
    return SCORES_SECTION.sub(lambda _: f"{measured}{markdown(scores)}\n{divergence}", card)


def _task_rows(precisions: Mapping[str, Any], names: Sequence[str]) -> Iterable[list[str]]:
    last = precisions[names[-1]]["tasks"]
    for task, label in TASK_LABELS.items():
        if task in last:
            cells = [precisions[n]["tasks"][task].get(language) for n in names for language in ("en", "zh")]
            shares = [f"{100 * cell['score']:.1f} %" if cell else "" for cell in cells]
            yield [label, str(last[task]["both"]["n"]), *shares]


def _count_rows(precisions: Mapping[str, Any], names: Sequence[str], truths: Sequence[str]) -> Iterable[list[str]]:
    for name in names:
        table = precisions[name]["count_kind_by_truth"]
        yield [name.upper(), *(f"{100 * table[truth]['score']:.1f} %" for truth in truths)]
    table = precisions[names[-1]]["count_kind_by_truth"]
    yield ["questions", *(str(table[truth]["n"]) for truth in truths)]


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def _number(name: str, value: float) -> str:
    return f"{value:.5f}" if name == "int8_kl" else f"{100 * value:.2f} %"


def _share(scores: Sequence[float]) -> dict[str, Any]:
    return {"score": round(sum(scores) / len(scores), 4), "n": len(scores)}


if __name__ == "__main__":
    scores_path, card_path = (Path(argument) for argument in sys.argv[1:])
    card = fill_model_card(card_path.read_text(encoding="utf-8"), json.loads(scores_path.read_text(encoding="utf-8")))
    card_path.write_text(card, encoding="utf-8")
