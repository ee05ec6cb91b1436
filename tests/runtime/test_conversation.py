"""Conversations: cached turns, interrupted answers, and saved files."""

from __future__ import annotations

import base64
import codecs
import io
import json
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydantic
import pytest
from PIL import Image as PILImage

import vlrun
from tests.paths import EXAMPLES
from vlrun import Conversation, Options, Turn
from vlrun.embedded import FOLDER
from vlrun.errors import InvalidAnswer, MediaNotFound, ModelNotFound, OptionError, OutputError
from vlrun.structured.python_types import schema_of
from vlrun.types.turn import GeneratedText

pytestmark = pytest.mark.slow

SHELF = EXAMPLES / "shelf.png"
GREEDY = Options(temperature=0, max_tokens=24)
CALL = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


@pytest.fixture(scope="module")
def vlm() -> Iterator[vlrun.VLM]:
    with vlrun.load() as model:
        yield model


def test_each_turn_prefills_only_its_new_tokens(vlm: vlrun.VLM) -> None:
    """Earlier turns and answers are cached up to the last full block of 32 tokens."""
    conversation = Conversation(vlm, options=GREEDY)
    previous = 0
    for question in (
        "Describe this image.",
        "How many cans?",
        "How many bottles are there?",
        "Where is the yellow can?",
    ):
        answer = conversation.ask(question, SHELF if not previous else ())
        assert answer.usage.cached_tokens >= (previous - 1) // 32 * 32
        previous = answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert previous > 128


def test_a_cached_conversation_equals_an_uncached_one(vlm: vlrun.VLM) -> None:
    conversation = Conversation(vlm, options=GREEDY)
    conversation.ask("Describe this image.", SHELF)
    cached = conversation.ask("How many bottles are there?")
    with vlrun.load() as fresh:
        *_, last = fresh.chat(conversation.turns[:-1], GREEDY)
    assert last.answer is not None
    assert last.answer.usage.cached_tokens == 0
    assert last.answer.text == cached.text


def test_a_second_image_is_numbered(vlm: vlrun.VLM) -> None:
    """Numbering the first image afterwards would invalidate its cached prefix."""
    conversation = Conversation(vlm, options=GREEDY)
    first = conversation.ask("How many bottles are there?", SHELF)
    second = conversation.ask("And here?", PILImage.new("RGB", (256, 256), "white"))
    assert second.usage.cached_tokens >= first.usage.prompt_tokens // 32 * 32
    assert second.usage.image_tokens == 128


def test_an_interrupted_answer_is_kept_in_part(vlm: vlrun.VLM) -> None:
    """Guards Ctrl+C in `vlrun chat`: the next turn continues from the text received."""
    conversation = Conversation(vlm, options=GREEDY)
    stream = conversation.stream("Describe this image.", SHELF)
    text = next(stream).text
    stream.close()
    assert conversation.turns[-1] == Turn("assistant", (text,))
    assert conversation.ask("How many bottles are there?").text


def test_a_failed_question_is_not_kept(vlm: vlrun.VLM) -> None:
    conversation = Conversation(vlm, system="Be short.", options=GREEDY)
    with pytest.raises(MediaNotFound):
        conversation.ask("What is this?", "nowhere.png")
    with pytest.raises(OptionError):
        conversation.ask(" ", SHELF)
    assert [turn.role for turn in conversation.turns] == ["system"]
    conversation.ask("Describe this image.", SHELF)
    conversation.clear()
    assert [turn.role for turn in conversation.turns] == ["system"]


def test_a_loaded_conversation_equals_the_saved_one(vlm: vlrun.VLM, tmp_path: Path) -> None:
    conversation = Conversation(vlm, options=GREEDY)
    conversation.ask("Describe this image.", SHELF)
    conversation.save(tmp_path / "chat.json")
    again = Conversation(vlm, options=GREEDY)
    marked = tmp_path / "marked.json"  # as editors on Windows write it
    marked.write_bytes(codecs.BOM_UTF8 + (tmp_path / "chat.json").read_bytes())
    again.load(marked)
    assert [turn.role for turn in again.turns] == ["user", "assistant"]
    assert again.turns[1] == conversation.turns[1]
    image, original = again.turns[0].parts[0], conversation.turns[0].parts[0]
    assert isinstance(image, vlrun.Image)
    assert isinstance(original, vlrun.Image)
    assert image.sha256 == original.sha256
    assert again.ask("How many cans?").text == conversation.ask("How many cans?").text


def test_token_ids_of_another_model_are_replaced_by_text(vlm: vlrun.VLM, tmp_path: Path) -> None:
    conversation = Conversation(vlm, options=GREEDY)
    conversation.ask("Describe this image.", SHELF)
    assert isinstance(conversation.turns[1].parts[0], GeneratedText)
    conversation.save(tmp_path / "chat.json")
    saved = json.loads((tmp_path / "chat.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps(saved | {"model": "another"}))
    conversation.load(tmp_path / "other.json")
    assert isinstance(conversation.turns[1].parts[0], str)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a conversation"),
        ("[1]", "not a conversation"),
        ('{"format": 9, "model": "x", "turns": []}', "format 9"),
        ('{"format": 1, "model": "x", "turns": [{"role": "user", "parts": [{"png": "AAAA"}]}]}', "damaged"),
        ('{"format": 1, "model": "x", "turns": [{"role": "user", "parts": [{"png": "*"}]}]}', "damaged"),
        ('{"format": 1, "model": "x", "turns": [{"role": "ghost", "parts": []}]}', "not a conversation"),
    ],
)
def test_a_damaged_file_is_refused(vlm: vlrun.VLM, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "chat.json").write_text(content)
    conversation = Conversation(vlm, system="Be short.")
    with pytest.raises(OptionError, match=message):
        conversation.load(tmp_path / "chat.json")
    assert len(conversation.turns) == 1


def test_a_model_folder_is_no_conversation(vlm: vlrun.VLM) -> None:
    """It was "cannot read ...: Is a directory", although its user took the one load for the other."""
    with pytest.raises(OptionError) as raised:
        Conversation(vlm).load(FOLDER)
    assert str(raised.value) == (
        f"'{FOLDER}' is a model folder: vlrun.load opens it; a conversation is a file of save()"
    )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("conversation.json", "'{}' is a file; a model is a folder that 'vlrun export' made"),
        ("checkpoint", "'{}' has no manifest.json: export a checkpoint with 'vlrun export' first"),
        ("Qwen/Qwen3-VL-2B-Instruct", "no model folder at '{}': 'vlrun export' makes one from a checkpoint"),
    ],
)
def test_what_is_no_model_folder_says_what_one_is(tmp_path: Path, path: str, message: str) -> None:
    """A saved conversation, a checkpoint, and a name of Hugging Face are the likely mistakes."""
    (tmp_path / "conversation.json").write_text("{}")
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(ModelNotFound) as raised:
        vlrun.load(tmp_path / path)
    assert str(raised.value) == message.format(tmp_path / path)


def test_saved_images_are_counted_before_they_are_decoded(vlm: vlrun.VLM, tmp_path: Path) -> None:
    """A file of 5 MB with 14 images of 89 megapixels took 48 s and 4 GB."""
    encoded = io.BytesIO()
    PILImage.new("1", (9400, 9500)).save(encoded, "PNG")
    damaged = encoded.getvalue()[:60]  # its header can be read, its pixels cannot
    part = {"png": base64.b64encode(damaged).decode()}
    turns = [{"role": "user", "parts": [part] * 12}]
    (tmp_path / "chat.json").write_text(json.dumps({"format": 1, "model": "x", "turns": turns}))
    with pytest.raises(OptionError, match="more than 1,000 megapixels"):
        Conversation(vlm).load(tmp_path / "chat.json")


def test_impossible_paths_are_refused_and_leave_no_file(vlm: vlrun.VLM, tmp_path: Path) -> None:
    conversation = Conversation(vlm)
    with pytest.raises(OptionError, match="cannot read"):
        conversation.load(tmp_path / "none.json")
    with pytest.raises(OutputError, match="cannot write"):
        conversation.save(tmp_path / "none" / "chat.json")
    assert not list(tmp_path.iterdir())


def test_marks_are_in_original_pixels_of_the_last_image(vlm: vlrun.VLM) -> None:
    """With two images in a turn there are no marks."""
    box_answer = Options(schema={"const": {"bbox_2d": [0, 0, 1000, 1000], "label": "all"}})
    cropped = vlrun.crop(vlrun.open_image(SHELF), vlrun.Region(100, 50, 200, 300))
    conversation = Conversation(vlm)
    (whole,) = conversation.ask("What?", SHELF, box_answer).marks
    (part,) = conversation.ask("And here?", cropped, box_answer).marks
    (later,) = conversation.ask("Sure?", options=box_answer).marks
    assert whole.box == (0, 0, 640, 640)
    assert part.box == later.box == (100, 50, 300, 350)
    assert not vlm.ask([SHELF, SHELF], "What?", box_answer).marks


def test_image_transforms_are_saved(vlm: vlrun.VLM, tmp_path: Path) -> None:
    cropped = vlrun.crop(vlrun.open_image(SHELF), vlrun.Region(100, 50, 300, 300))
    conversation = Conversation(vlm, options=GREEDY)
    conversation.ask("How many bottles are there?", cropped)
    conversation.save(tmp_path / "chat.json")
    conversation.load(tmp_path / "chat.json")
    image = conversation.turns[0].parts[0]
    assert isinstance(image, vlrun.Image)
    assert image.to_original == cropped.to_original


@pytest.mark.parametrize("ids", ["[-1]", "[999999999]", "[1152921504606846976]", "IMAGE"])
def test_impossible_token_ids_are_refused(vlm: vlrun.VLM, tmp_path: Path, ids: str) -> None:
    """Saved files are untrusted: ids may lie outside the vocabulary or name an image token without an image."""
    ids = ids.replace("IMAGE", f"[{vlm.manifest.tokens.image}]")
    content = f'{{"format": 1, "model": "{vlm.fingerprint}", "turns": [{{"role": "assistant", "parts": [{{"text": "x", '
    (tmp_path / "chat.json").write_text(f'{content}"said": {ids}}}]}}]}}')
    with pytest.raises(OptionError, match=r"damaged|not a conversation"):
        Conversation(vlm).load(tmp_path / "chat.json")


class Refusing(pydantic.BaseModel):
    bottles: int

    @pydantic.field_validator("bottles")
    @classmethod
    def refuse(cls, _: int) -> int:
        raise KeyError("not in the catalogue")


@dataclass
class Unfit:
    bottles: int

    def __post_init__(self) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize("kind", [Refusing, Unfit])
def test_an_answer_survives_its_type(vlm: vlrun.VLM, kind: type) -> None:
    """A validator that refused a finished answer lost its text."""
    options = Options(schema=kind, temperature=0)
    expected = vlm.ask(SHELF, "How many bottles are there?", Options(schema=schema_of(kind), temperature=0))
    texts = []
    with pytest.raises(InvalidAnswer, match=f"does not fit '{kind.__name__}'") as refusal:
        texts += [chunk.text for chunk in vlm.stream(SHELF, "How many bottles are there?", options)]
    answer = refusal.value.answer
    assert (answer.text, answer.finish_reason, answer.value) == (expected.text, "stop", None)
    assert answer.usage.completion_tokens == expected.usage.completion_tokens
    assert pickle.loads(pickle.dumps(refusal.value)).answer.text == expected.text
    conversation = Conversation(vlm)
    with pytest.raises(InvalidAnswer):
        conversation.ask("How many bottles are there?", SHELF, options)
    assert conversation.turns[-1].parts[0] == GeneratedText(answer.tokens, answer.text)


@pytest.mark.parametrize("path", ["", ".", "/", "a\0b"])
def test_invalid_file_names_are_refused(vlm: vlrun.VLM, path: str) -> None:
    with pytest.raises(OutputError if path else OptionError):
        Conversation(vlm).save(path)
    with pytest.raises(OptionError):
        Conversation(vlm).load(path)


@pytest.mark.fault(55)
def test_only_saved_conversations_are_replaced(vlm: vlrun.VLM, tmp_path: Path) -> None:
    """``/save`` replaced photos, links and, as root, device nodes."""
    conversation, photo, link = Conversation(vlm, system="Be short."), tmp_path / "a.png", tmp_path / "link"
    photo.write_bytes(SHELF.read_bytes())
    os.mkfifo(tmp_path / "pipe")
    saved = tmp_path / "chat.json"
    saved.touch()
    link.symlink_to(saved)
    for _ in range(2):
        conversation.save(link)
        assert link.is_symlink()
        Conversation(vlm).load(saved)
    for refused in (photo, tmp_path / "pipe", Path("/dev/null"), tmp_path):
        with pytest.raises(OutputError):
            conversation.save(refused)
    assert photo.read_bytes() == SHELF.read_bytes()
    assert (tmp_path / "pipe").is_fifo()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("results", ["3.50", ["3.50"], [3.5], [], [{"price": 3.5}]])
def test_tool_results_must_match_the_calls(vlm: vlrun.VLM, results: object) -> None:
    conversation = Conversation(vlm, options=GREEDY)
    conversation.ask("How many bottles are there?", SHELF)
    with pytest.raises(OptionError, match=r"results.* must be a t|tool calls, but there are"):
        conversation.tool_results(results)  # type: ignore[arg-type]


def test_tool_results_continue_the_conversation(vlm: vlrun.VLM) -> None:
    """The test writes the call itself, since the embedded model does not make this one."""
    conversation = Conversation(vlm, options=GREEDY, tools=[{"type": "function", "function": {"name": "now"}}])
    conversation.turns = (Turn("user", ("What time is it?",)), Turn("assistant", (CALL,)))
    *_, last = conversation.tool_results(["12:00"])
    assert last.answer is not None
    assert [turn.role for turn in conversation.turns] == ["user", "assistant", "tool", "assistant"]
