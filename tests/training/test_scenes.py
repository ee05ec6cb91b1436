"""Scenes, the questions about them, the labels of their patches, and how answers are scored."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from training.batches import SIZES
from training.examples import EXAMPLES, example
from training.inquiries import inquiries
from training.labels import CHARACTERS, PALETTE, THINGS, UNKNOWN, look_target, patch_labels
from training.pairs import ANSWERS, about_pairs
from training.questions import Exchange, Look, exchanges
from training.report import GOALS, Judged, markdown, tables, targets
from training.scenes import (
    COLUMN_PIXELS,
    KINDS,
    LEAST_PIXELS,
    MOST_ITEMS,
    MOST_PIXELS,
    PIXEL_FACTOR,
    SHELF_PIXELS,
    Glyph,
    Item,
    Scene,
    draw_scene,
    original_size,
)
from training.scores import box_iou, score_answer
from training.wording import ZH, plural
from vlrun.vision.grid import Grid
from vlrun.vision.patches import fit

SIZE = (256, 192)
SEEDS = range(25)


def scene(domain: str, seed: int) -> Scene:
    return draw_scene(domain, SIZE, np.random.default_rng(seed))


def asked(of: Scene, task: str) -> list[Exchange]:
    found = islice(exchanges(of, np.random.default_rng(7)), 60)
    return [exchange for exchange in found if exchange.task == task]


def counted(question: str, names: dict[str, tuple[str, str]]) -> str | None:
    """Which of the names, each in English and Chinese, a question speaks of."""
    found = [name for name, forms in names.items() if any(re.search(form, question) for form in forms)]
    return found[0] if len(found) == 1 else None


KIND_NAMES = {kind: (rf"\b{plural(kind)}\b", ZH[kind]) for kind in KINDS}


@pytest.mark.parametrize("domain", ["shelf", "tag", "sign", "shapes"])
def test_a_seed_names_a_scene(domain: str) -> None:
    """Guards reproducible training and held-out scenes: the same seed draws the same, another something else."""
    first, again, other = scene(domain, 3), scene(domain, 3), scene(domain, 4)
    assert (first.items, first.glyphs, first.text) == (again.items, again.glyphs, again.text)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.image.tobytes() != other.image.tobytes()
    assert first.image.size == SIZE


def test_a_scene_may_stay_large() -> None:
    """Guards the evaluation: drawn large, a scene is still no finer than what the model will see."""
    for seed in SEEDS:
        large = draw_scene("shelf", SIZE, np.random.default_rng(seed), drawn=(1024, 768))
        assert large.image.size == (1024, 768)
        assert large.shelves <= SIZE[1] // SHELF_PIXELS
        assert all((i.box[2] - i.box[0]) * SIZE[0] < SIZE[0] / 2 for i in large.items)


def test_shelves_are_within_limits() -> None:
    """Guards what the model card promises: at most eight of one kind asked about, twelve items, all in the image."""
    for seed in SEEDS:
        drawn = scene("shelf", seed)
        assert len(drawn.items) <= min(MOST_ITEMS, (SIZE[0] // COLUMN_PIXELS) * (SIZE[1] // SHELF_PIXELS))
        for item in drawn.items:
            left, top, right, bottom = item.box
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1


def test_counts_are_true() -> None:
    """Guards the truth: a count in an answer is the number of things of that kind that were drawn."""
    seen = 0
    for seed in SEEDS:
        drawn = scene("shelf", seed)
        counts = Counter(item.kind for item in drawn.items)
        for exchange in asked(drawn, "count_kind"):
            kind = counted(exchange.question, KIND_NAMES)
            assert kind is not None, exchange.question
            assert exchange.answer == str(counts[kind])
            seen += 1
        assert all(json.loads(e.answer) == dict(counts) for e in asked(drawn, "json"))
        assert all(e.answer == str(len(drawn.items)) for e in asked(drawn, "count_items"))
        assert all(e.answer == str(drawn.shelves) for e in asked(drawn, "count_shelves"))
    assert seen > 50


@pytest.mark.parametrize("domain", ["shelf", "shapes"])
def test_only_what_is_named_alone_is_located(domain: str) -> None:
    """Guards against ambiguous places: the label fits one thing, and the box is that thing's, within 0-1000."""
    seen = 0
    for seed in SEEDS:
        drawn = scene(domain, seed)
        for exchange in asked(drawn, "where"):
            answer = json.loads(exchange.answer)
            words = answer["label"].split()
            fits = [i for i in drawn.items if i.kind == words[-1] and (len(words) == 1 or i.colour == words[0])]
            assert len(fits) == 1
            assert all(0 <= edge <= 1000 and edge % 10 == 0 for edge in answer["bbox_2d"])
            assert np.allclose(np.array(answer["bbox_2d"]) / 1000, fits[0].box, atol=0.0051)
            seen += 1
    assert seen > 20


def test_yes_and_no_are_balanced_and_true() -> None:
    """Guards against a model that learns the prior: both answers come up, and each is right."""
    answers = Counter()  # type: Counter[bool]
    for seed in range(60):
        drawn = scene("shapes", seed)
        for exchange in asked(drawn, "exists"):
            yes = exchange.answer in ("yes", "有")
            present = any(
                (f"{i.colour} {i.kind}" in exchange.question)
                or (ZH[i.colour] in exchange.question and ZH[i.kind] in exchange.question)
                for i in drawn.items
            )
            assert yes == present, exchange
            answers[yes] += 1
    assert 0.3 < answers[True] / answers.total() < 0.7


@pytest.mark.parametrize(("domain", "task"), [("tag", "price"), ("sign", "read")])
def test_writing_is_read_out(domain: str, task: str) -> None:
    """Guards text scenes: the answer is what stands on the plate, letter for letter from left to right."""
    for seed in SEEDS:
        drawn = scene(domain, seed)
        assert "".join(glyph.character for glyph in drawn.glyphs) == drawn.text
        assert [g.box[0] for g in drawn.glyphs] == sorted(g.box[0] for g in drawn.glyphs)
        assert {e.answer for e in asked(drawn, task)} == {drawn.text}
        assert re.fullmatch(r"\$\d{1,2}\.\d\d" if domain == "tag" else "[A-Z]{2,6}", drawn.text)


def test_patch_labels() -> None:
    """Guards the auxiliary truth and its order: merge blocks of four patches, a thing where it covers the middle."""
    grid = Grid(4, 4, 2)
    items = (Item("can", "red", (0.0, 0.0, 0.5, 0.25)), Item("bag", "blue", (0.5, 0.5, 1.0, 1.0)))
    glyphs = (Glyph("7", (0.5, 0.0, 0.75, 0.25)),)
    labels = patch_labels(Scene("shelf", Image.new("RGB", (64, 64)), items, glyphs=glyphs), grid)
    can, bag = THINGS.index("can"), THINGS.index("bag")
    assert labels.thing.tolist() == [can, can, 0, 0, *[0] * 8, *[bag] * 4]
    assert labels.colour.tolist() == [PALETTE.index("red")] * 2 + [0] * 10 + [PALETTE.index("blue")] * 4
    assert labels.character.tolist() == [0, 0, 0, 0, CHARACTERS.index("7"), *[0] * 11]
    assert labels.place.tolist() == [0, 0, 0, 0, 1, *[0] * 11]
    assert labels.middles.tolist() == [1, 1, 0, 1]
    assert labels.box[-1].tolist() == [0.5, 0.5, 1.0, 1.0]
    assert set(patch_labels(Scene("easy", Image.new("RGB", (64, 64))), grid).thing) == {UNKNOWN}


@pytest.mark.parametrize("size", SIZES)
def test_originals_become_what_is_trained(size: tuple[int, int]) -> None:
    """Guards the stretch: training shows images as the runtime would resize them, of more than one proportion."""
    rng = np.random.default_rng(0)
    originals = [original_size(size, rng) for _ in range(40)]
    for width, height in originals:
        assert fit(height, width, PIXEL_FACTOR, LEAST_PIXELS, MOST_PIXELS) == (size[1], size[0])
    proportions = [width / height for width, height in originals]
    assert max(proportions) > 1.03 * min(proportions)


def test_where_to_look() -> None:
    """Guards the truth of attention: a thing by the area it covers, counted things by their middles and the rest."""
    grid = Grid(4, 4, 2)
    thing = look_target(Look(0, 1, ((0.0, 0.0, 0.75, 0.5),)), grid)
    assert thing.tolist() == pytest.approx([0, 2 / 3, 1 / 3, 0, 0])
    several = look_target(Look(0, 1, ((0.1, 0.1, 0.3, 0.3), (0.4, 0.6, 0.5, 0.9)), counted=True), grid)
    assert several.tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3, 0])
    assert look_target(Look(0, 1, (), counted=True), grid).tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("domain", ["shelf", "shapes", "tag", "sign"])
def test_looks_are_at_what_is_said(domain: str) -> None:
    """Guards the truth of attention: a number looks at as many things as it says, a name or letter at its own."""
    seen = 0
    for seed in SEEDS:
        drawn = scene(domain, seed)
        for exchange in islice(exchanges(drawn, np.random.default_rng(7)), 40):
            for look in exchange.looks:
                said = exchange.answer[look.start : look.end]
                if said.isdecimal() and look.counted:
                    assert len(look.boxes) == int(said), exchange
                elif domain in ("tag", "sign"):
                    assert [g.character for g in drawn.glyphs if g.box in look.boxes] == [said], exchange
                elif exchange.task == "describe":
                    (item,) = [i for i in drawn.items if i.box in look.boxes]
                    assert item.kind in said or ZH[item.kind] in said, exchange
                    assert item.colour in said or ZH[item.colour] in said, exchange
                seen += 1
    assert seen > 100


BOX = '{"bbox_2d": [100, 100, 300, 300], "label": "can"}'


@pytest.mark.parametrize(
    ("answer", "iou"),
    [
        (BOX, 1.0),
        ('{"bbox_2d": [100, 100, 300, 200], "label": "can"}', 0.5),
        ('{"bbox_2d": [300, 300, 400, 400], "label": "can"}', 0.0),
        (BOX.replace("can", "box"), 0.0),
        ('{"bbox_2d": [100, 100, 300], "label": "can"}', 0.0),
        ('{"bbox_2d": ["a", 100, 300, 300], "label": "can"}', 0.0),
        ("[1]", 0.0),
        ("6", 0.0),
        ("", 0.0),
    ],
)
def test_box_iou(answer: str, iou: float) -> None:
    """Guards the score of places: broken answers count as wrong and never stop an evaluation."""
    assert box_iou(answer, BOX) == pytest.approx(iou)
    assert score_answer("where", answer, BOX) == float(iou >= 0.5)


def test_exact_match_is_exact() -> None:
    """Guards against a lenient score: 6 is not 16, nor is it six."""
    assert score_answer("count_kind", "6", "6") == 1
    assert [score_answer("count_kind", wrong, "6") for wrong in ("16", "6.", "six", "")] == [0] * 4


def test_tables_and_targets() -> None:
    """Guards the recorded figures: shares by language and true count, and an honest verdict on each target."""
    judged = [
        Judged("count_kind", "en", "2", 1),
        Judged("count_kind", "zh", "2", 0),
        Judged("count_kind", "en", "0", 1),
    ]
    table = tables(judged)
    assert table["tasks"]["count_kind"]["both"] == {"score": 0.6667, "n": 3}
    nine = tables([*judged, Judged("count_kind", "en", "9", 0)])["tasks"]["count_kind"]
    assert (nine["both"]["n"], nine["goal"]["n"]) == (4, 3)
    assert table["count_kind_by_truth"] == {"0": {"score": 1.0, "n": 1}, "2": {"score": 0.5, "n": 2}}
    verdict = targets({"fp32": table, "int8": table}, kl=0.001, agreement=0.9)
    assert not verdict["count_kind"]["met"]
    assert verdict["count_kind"]["goal"] == GOALS["count_kind"]
    assert verdict["int8_loss"]["met"]
    assert verdict["int8_kl"]["met"]
    assert not verdict["int8_agreement"]["met"]
    text = markdown({"precisions": {"fp32": table, "int8": table}, "targets": verdict})
    assert "| how many of a kind | 3 | 100.0 % | 0.0 % | 100.0 % | 0.0 % |" in text


def test_examples_are_what_the_readme_says() -> None:
    """Guards the first command of the README: six bottles on three shelves."""
    shelf = example("shelf")
    assert Counter(item.kind for item in shelf.items)["bottle"] == 6
    assert shelf.shelves == 3
    assert all(example(name).image.size == size for name, (_, size, _) in EXAMPLES.items())


@pytest.mark.parametrize("domain", ["shelf", "tag", "sign", "shapes"])
def test_tasks_have_true_answers(domain: str) -> None:
    """Guards what training teaches of tasks: forms that validate, numbers and boxes that are true of the scene."""
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        drawn = scene(domain, seed)
        counts = Counter(item.kind for item in drawn.items)
        for turns in islice(inquiries(drawn, np.random.default_rng(seed)), 12):
            exchange = turns[-1]
            seen[exchange.task] += 1
            if exchange.task == "count":
                answer = json.loads(exchange.answer)
                assert answer["total"] == sum(answer["items"].values())
                for name, number in answer["items"].items():
                    kind = name if name in counts or name in KIND_NAMES else {ZH[k]: k for k in ZH}.get(name, name)
                    assert number == counts[kind], (name, number)
                    assert name in exchange.question or "every kind" in exchange.question or "每种" in exchange.question
            elif exchange.task == "locate":
                for box in json.loads(exchange.answer):
                    *colour, kind = box["label"].split()
                    fits = [i for i in drawn.items if i.kind == kind and colour in ([], [i.colour])]
                    assert any(np.allclose(np.array(box["bbox_2d"]) / 1000, i.box, atol=0.0051) for i in fits)
            elif exchange.task == "fields":
                assert max(json.loads(exchange.answer).values()) == drawn.text
            else:
                assert exchange.answer == drawn.text
            for look in exchange.looks:
                assert 0 <= look.start < look.end <= len(exchange.answer)
    assert set(seen) == ({"count", "locate"} if domain in ("shelf", "shapes") else {"fields", "ocr"})


def test_reasoning_goes_shelf_by_shelf() -> None:
    """Guards ``--steps``: each row says what stands there, and the rows add up to the whole."""
    checked = 0
    for seed in SEEDS:
        drawn = scene("shelf", seed)
        for turns in islice(inquiries(drawn, np.random.default_rng(seed)), 20):
            if len(turns) == 2:
                steps, count = turns
                assert steps.answer.count("Row " if steps.language == "en" else "第") == drawn.shelves
                numbers = [int(steps.answer[look.start : look.end]) for look in steps.looks]
                assert sum(numbers) == len(drawn.items)
                assert count.task == "count"
                checked += 1
    assert checked > 10


def test_questions_about_two_images_are_true() -> None:
    """Guards pairs: which has more, how many in one, which has a thing, what differs."""
    seen: Counter[str] = Counter()
    for seed in range(40):
        scenes = [scene("shelf", 2 * seed), scene("shelf", 2 * seed + 1)]
        counts = [Counter(item.kind for item in one.items) for one in scenes]
        for exchange in islice(about_pairs(scenes, np.random.default_rng(seed)), 12):
            seen[exchange.task] += 1
            kind = counted(exchange.question, KIND_NAMES)
            first, second = (one[kind or ""] for one in counts)
            if exchange.task == "which_more":
                place = 0 if first > second else 1 if second > first else 2
                assert exchange.answer in {ANSWERS[language][place] for language in ("en", "zh")}
            elif exchange.task == "count_in":
                number = "12".index(re.sub("[^12]", "", exchange.question))
                assert exchange.answer == str((first, second)[number])
            elif exchange.task == "compare":
                different = sum(counts[0][kind] != counts[1][kind] for kind in KIND_NAMES)
                assert len(exchange.looks) == 2 * different
            for look in exchange.looks:
                assert len(look.images) == len(look.boxes)
    assert set(seen) == {"which_more", "count_in", "which_has", "compare"}


def test_looks_at_the_second_image_lie_behind_the_first() -> None:
    """Guards what attention is taught on pairs."""
    grid = Grid(4, 4, 2)
    look = Look(0, 1, ((0.0, 0.0, 0.5, 0.5),), images=(1,))
    assert look_target(look, grid, 2).tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0]


def test_lists_of_boxes_are_scored_one_by_one() -> None:
    """Guards the score of ``locate``: as many boxes, each at its place, with its label."""
    truth = '[{"bbox_2d": [0, 0, 100, 100], "label": "can"}, {"bbox_2d": [500, 0, 600, 100], "label": "can"}]'
    assert score_answer("locate", truth, truth) == 1
    assert score_answer("locate", truth.replace("600", "590"), truth) == 1
    assert score_answer("locate", truth.replace("600", "540"), truth) == 0
    assert score_answer("locate", '[{"bbox_2d": [0, 0, 100, 100], "label": "can"}]', truth) == 0
    assert score_answer("locate", "[]", "[]") == 1
    assert score_answer("locate", "no", truth) == 0
