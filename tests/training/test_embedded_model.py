"""The shipped model: recorded scores, size, and answers about the examples."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import vlrun
from tests.paths import EXAMPLES as IMAGES
from training.easy_vqa import load_easy_vqa
from training.examples import ARTICLES, EXAMPLES, example
from training.heatmap_evaluation import QUESTIONS as HEATMAP_QUESTIONS
from training.heatmap_evaluation import measure_heatmap
from training.metrics import score_answer
from training.model_card import GOALS, MAX_INT8_LOSS, MAX_KL, MIN_AGREEMENT, fill_model_card
from training.scene_questions import box_answer
from training.vocabulary import train_tokenizer
from vlrun import manifest
from vlrun.embedded import FOLDER
from vlrun.models.model_folder import ModelFolder
from vlrun.prompt.builder import user_turn
from vlrun.prompt.tokenizer import parse_tokenizer
from vlrun.tasks.definition import find_task
from vlrun.types.answer import last_of
from vlrun.types.turn import Mode, Tool, ToolChoice, Turn

MAX_BYTES = 12_000_000
QUESTIONS = [
    ("shelf", "How many bottles are there?", "6"),
    ("shelf", "有几个瓶子？", "6"),
    ("shelf", "How many shelves are there?", "3"),
    ("shelf", "有几层货架？", "3"),
    ("shelf", "Count the items as JSON.", '{"bottle": 6, "can": 1, "box": 1, "bag": 1}'),
    ("shelf", "用JSON给出每种商品的数量。", '{"bottle": 6, "can": 1, "box": 1, "bag": 1}'),
    ("shelf", "How many items are there?", "9"),
    ("shelf", "一共有多少件商品？", "9"),
    ("shelf", "How many yellow bottles are there?", "3"),
    ("shelf", "有几个黄色瓶子？", "3"),
    ("shelf", "How many red cans are there?", "0"),
    ("shelf", "Is there a red bag?", "yes"),
    ("price_tag", "What is the price?", "$26.42"),
    ("price_tag", "价格是多少？", "$26.42"),
    ("word", "What does the sign say?", "SUGAR"),
    ("word", "牌子上写着什么？", "SUGAR"),
    ("shapes", "What color is the triangle?", "blue"),
    ("shapes", "三角形是什么颜色？", "蓝色"),
    ("shapes", "How many circles are there?", "2"),
    ("shapes", "图中有多少个圆形？", "2"),
]


@pytest.fixture(scope="module")
def vlm() -> vlrun.VLM:
    return vlrun.load()


@pytest.fixture(scope="module")
def scores() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "scores.json").read_text("utf-8"))
    return found


def test_scores_belong_to_this_model(scores: dict[str, Any]) -> None:
    assert scores["model"] == ModelFolder(FOLDER).fingerprint
    assert scores["precisions"].keys() == {"fp32", "int8"}


def test_the_model_card_shows_these_scores(scores: dict[str, Any]) -> None:
    card = (FOLDER / "README.md").read_text("utf-8")
    assert fill_model_card(card, scores) == card
    assert "TO FILL" not in card


def test_recorded_targets_follow_from_the_scores(scores: dict[str, Any]) -> None:
    targets, tasks = scores["targets"], scores["precisions"]["int8"]["tasks"]
    for task, goal in GOALS.items():
        measured = tasks[task]["goal"]["score"]
        assert targets[task] == {"goal": goal, "measured": measured, "met": measured >= goal}
    assert targets["int8_loss"]["goal"] == MAX_INT8_LOSS
    assert targets["int8_kl"]["met"] == (scores["kl"] <= MAX_KL)
    assert targets["int8_agreement"]["met"] == (scores["agreement"] >= MIN_AGREEMENT)


def test_int8_meets_its_targets(scores: dict[str, Any]) -> None:
    """On held-out answers: mean KL divergence at most 0.01, and the same first token in at least 97 %."""
    assert scores["positions"] > 1000
    assert scores["targets"]["int8_kl"]["met"]
    assert scores["targets"]["int8_agreement"]["met"]


def test_the_folder_is_small_and_its_files_match_their_hashes() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) <= MAX_BYTES
    ModelFolder(FOLDER).check_hashes()


@pytest.mark.slow
def test_training_reproduces_the_tokenizer() -> None:
    """A changed question or scene changes the vocabulary."""
    easy_questions = [qa.question for image in load_easy_vqa("train") for qa in image.qa_pairs]
    embedded = parse_tokenizer((FOLDER / manifest.TOKENIZER).read_bytes(), manifest.TOKENIZER)
    assert train_tokenizer(easy_questions).to_str() == embedded.to_str()


@pytest.mark.parametrize(("name", "question", "answer"), QUESTIONS)
def test_questions_about_the_examples_are_answered(vlm: vlrun.VLM, name: str, question: str, answer: str) -> None:
    assert vlm.ask(IMAGES / f"{name}.png", question).text == answer


SYSTEMS = (
    None,
    "You are a helpful assistant.",
    "You are a shop assistant. Answer briefly.",
    "你是商店的助手。请简短回答。",
)


@pytest.mark.parametrize("text_first", [False, True])
@pytest.mark.parametrize("system", SYSTEMS)
def test_both_orders_and_short_system_prompts_give_the_same_answers(
    vlm: vlrun.VLM, system: str | None, text_first: bool
) -> None:
    """Half of all clients send the text first or a system prompt, and got 7 bottles instead of 6."""
    for name, question, answer in QUESTIONS[::3]:
        content = (question, vlrun.open_image(IMAGES / f"{name}.png"))
        turns = [Turn("system", (system,))] if system else []
        turns.append(Turn("user", content if text_first else content[::-1]))
        assert last_of(vlm.chat(turns, vlrun.Options(temperature=0))).text == answer, question


@pytest.mark.parametrize(
    ("question", "label"), [("Where is the red bag?", "red bag"), ("绿色瓶子在哪里？", "green bottle")]
)
def test_single_items_are_located(vlm: vlrun.VLM, question: str, label: str) -> None:
    (item,) = [item for item in example("shelf").items if label == f"{item.colour} {item.kind}"]
    answer = vlm.ask(IMAGES / "shelf.png", question).text
    assert score_answer("where", answer, box_answer(item, label)) == 1, answer


PAIR = [IMAGES / "shelf.png", IMAGES / "shelf_two.png"]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Which has more bottles?", "Picture 1"),
        ("How many bottles are in Picture 2?", "3"),
        ("Which picture has a red bag?", "Picture 1"),
        ("哪张图片的瓶子更多？", "第1张"),
    ],
)
def test_two_images_are_compared(vlm: vlrun.VLM, question: str, answer: str) -> None:
    assert vlm.ask(PAIR, question).text == answer
    if answer == "Picture 1":
        assert vlm.ask(PAIR[::-1], question).text == "Picture 2"


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("When does the ball turn red?", "2.5 seconds"),
        ("球什么时候变成红色？", "2.5秒"),
        ("What changes its color?", "ball"),
        ("What color is the ball at the start?", "blue"),
        ("What color is the ball at the end?", "red"),
        ("球最后是什么颜色？", "红色"),
    ],
)
def test_a_clip_is_understood(vlm: vlrun.VLM, question: str, answer: str) -> None:
    """The ball turns red after two seconds, in the pair of frames at 2.2 and 2.7 seconds."""
    pytest.importorskip("av", reason="the extra video is not installed")
    given = vlm.ask(IMAGES / "ball.mp4", question)
    assert given.text == answer
    if "2.5" in answer:
        assert [(time.start, time.end) for time in given.times] == [(2.5, 2.5)]


def test_tasks_are_answered(vlm: vlrun.VLM) -> None:
    counted = vlrun.run_task(vlm, IMAGES / "shelf.png", task_request("count", items=("bottle", "can", "bag")))
    assert counted.value == {"total": 8, "items": {"bottle": 6, "can": 1, "bag": 1}}
    priced = vlrun.run_task(vlm, IMAGES / "price_tag.png", task_request("fields", fields=("price", "date")))
    assert priced.value == {"price": example("price_tag").text, "date": ""}
    assert vlrun.run_task(vlm, IMAGES / "word.png", task_request("ocr")).text == example("word").text


@pytest.mark.parametrize(("image", "name"), [("shelf", "bag"), ("shelf", "can"), ("shelf_two", "bottle")])
def test_all_items_of_a_kind_are_located(vlm: vlrun.VLM, image: str, name: str) -> None:
    scene = example(image)
    located = vlrun.run_task(vlm, IMAGES / f"{image}.png", task_request("locate", items=(name,)))
    expected = [item.box for item in scene.items if name in (item.kind, f"{item.colour} {item.kind}")]
    assert len(located.marks) == len(expected)
    side = scene.image.width
    for box in expected:
        pixels = np.array(box) * side
        assert any(np.abs(np.array(mark.box) - pixels).max() < 0.08 * side for mark in located.marks)


def tool(name: str, **arguments: str) -> Tool:
    """Return a tool definition with the JSON types of its arguments."""
    properties = {argument: {"type": kind} for argument, kind in arguments.items()}
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


COUNT, PRICE = tool("report_count", bottles="integer", cans="integer"), tool("report_price", price="number")
COUNT_CALL = ("report_count", {"bottles": 6, "cans": 1})


@pytest.mark.parametrize(
    ("name", "question", "called", "call", "mode"),
    [
        ("shelf", "Count the bottles and cans.", COUNT, COUNT_CALL, "auto"),
        ("shelf", "Count the bottles and cans.", COUNT, COUNT_CALL, "required"),
        ("shelf", "How many bottles are there?", COUNT, COUNT_CALL, "required"),
    ],
)
def test_tools_are_called(
    vlm: vlrun.VLM, name: str, question: str, called: Tool, call: tuple[str, dict[str, Any]], mode: Mode
) -> None:
    """Both when a call is optional and when it is required."""
    turns = [user_turn(IMAGES / f"{name}.png", question)]
    answer = last_of(vlm.chat(turns, vlrun.Options(temperature=0), [called], ToolChoice(mode, parallel=False)))
    (found,) = answer.tool_calls
    assert (found.name, json.loads(found.arguments)) == call


def test_an_unrelated_tool_is_not_called(vlm: vlrun.VLM) -> None:
    turns = [user_turn(IMAGES / "shelf.png", "How many bottles are there?")]
    answer = last_of(vlm.chat(turns, vlrun.Options(temperature=0), [PRICE]))
    assert (answer.text, answer.tool_calls) == ("6", ())


def task_request(name: str, items: tuple[str, ...] = (), fields: tuple[str, ...] = ()) -> vlrun.TaskRequest:
    return vlrun.TaskRequest(task=find_task(name), arguments=vlrun.TaskArguments(items, fields))


def test_schema_answers_do_not_depend_on_streaming_lookup_or_batching(vlm: vlrun.VLM) -> None:
    bottles = {"bottles": {"type": "integer", "minimum": 0, "maximum": 99}}
    schema = {"type": "object", "properties": bottles, "required": ["bottles"], "additionalProperties": False}
    options = vlrun.Options(temperature=0, schema=schema)
    single = vlm.ask(IMAGES / "shelf.png", "How many bottles are there?", options)
    without_lookup = vlm.ask(IMAGES / "shelf.png", "How many bottles are there?", replace(options, prompt_lookup=False))
    assert single.value == without_lookup.value == {"bottles": 6}
    assert single.usage.forward_passes < without_lookup.usage.forward_passes
    chunks = list(vlm.stream(IMAGES / "shelf.png", "How many bottles are there?", options))
    assert "".join(chunk.text for chunk in chunks) == single.text
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(vlm.ask, IMAGES / "shelf.png", "How many bottles are there?", options) for _ in range(4)]
        assert {answer.result().text for answer in answers} == {single.text}


@pytest.mark.parametrize("question", HEATMAP_QUESTIONS)
def test_heat_lies_on_the_item_in_the_question(vlm: vlrun.VLM, question: str) -> None:
    """On held-out scenes, the hottest token lies on the item far more often than by chance."""
    score = measure_heatmap(vlm, question, 20)
    assert score.hottest > 5 * score.chance
    assert score.share > 3 * score.chance


def test_examples_are_small() -> None:
    sizes = {path.stem: path.stat().st_size for path in IMAGES.glob("*.png")}
    assert sizes.keys() == {*EXAMPLES, ARTICLES}
    assert all(size < 100_000 for size in sizes.values())
