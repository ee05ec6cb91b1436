"""Thinking models: the reasoning is separated from the answer, ends in time, and leaves the history."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

import vlrun
from tests.paths import EXAMPLES
from tests.published import THINKING_TEMPLATE as PUBLISHED_TEMPLATE
from tests.published import needs_published
from tests.scripted_vlm import INSTRUCT_TEMPLATE, THINKING_TEMPLATE, ScriptedVLM
from vlrun import manifest as manifests
from vlrun.conversation import Conversation
from vlrun.embedded import FOLDER
from vlrun.engine.request import Cancellation
from vlrun.types.answer import Answer, Chunk
from vlrun.types.options import THINKING_TOKENS, Options
from vlrun.types.turn import GeneratedText, Tool, ToolChoice, Turn

SCHEMA = {
    "type": "object",
    "properties": {"count": {"enum": [6]}},
    "required": ["count"],
    "additionalProperties": False,
}
TOOL: Tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
GREEDY = Options(temperature=0)


@pytest.fixture(scope="module")
def vlm() -> ScriptedVLM:
    return ScriptedVLM()


def ask(vlm: ScriptedVLM, text: str, options: Options = GREEDY) -> tuple[Answer, list[Chunk]]:
    vlm.write(text)
    chunks = list(vlm.chat([Turn("user", ("How many?",))], options))
    answer = chunks[-1].answer
    assert answer is not None
    assert "".join(chunk.text for chunk in chunks) == answer.text
    assert "".join(chunk.reasoning for chunk in chunks) == answer.reasoning
    return answer, chunks


@pytest.mark.parametrize(
    ("output", "reasoning", "text"),
    [
        ("Let me see.\n</think>\n\nSix.", "Let me see.", "Six."),
        ("Let me see.</think>Six.", "Let me see.", "Six."),
        ("\n\nOne.\n\nTwo.\n\n\n</think>\n\n\nSix.\n\nYes.\n", "One.\n\nTwo.", "Six.\n\nYes.\n"),
        ("</think>\n\nSix.", "", "Six."),
        ("Let me see.\n</think>", "Let me see.", ""),
        ("Let me see.\n", "Let me see.", ""),
        ("", "", ""),
        ("几个瓶子？\n</think>\n\n六个。\U0001f600", "几个瓶子？", "六个。\U0001f600"),
        ("a\n</think>\n\nb </think> c", "a", "b </think> c"),
    ],
)
def test_reasoning_is_separated_from_the_answer(vlm: ScriptedVLM, output: str, reasoning: str, text: str) -> None:
    """Token by token, and when the text comes in single characters."""
    answer, chunks = ask(vlm, output)
    assert (answer.reasoning, answer.text, answer.finish_reason) == (reasoning, text, "stop")
    assert answer.opening + answer.text == output
    assert not any(chunk.reasoning and chunk.text for chunk in chunks)
    vlm.write(output, split=lambda whole: re.findall("</think>|.", whole, re.DOTALL))
    one_by_one = [*vlm.chat([Turn("user", ("How many?",))], GREEDY)][-1].answer
    assert one_by_one is not None
    assert (one_by_one.reasoning, one_by_one.text) == (reasoning, text)


def test_a_text_is_continued_with_its_reasoning(vlm: ScriptedVLM) -> None:
    """Without the chat template, nothing says that what the model writes is reasoning: all of it is the text."""
    vlm.write("Let me see.\n</think>\n\nSix.")
    *_, last = vlm.complete("<think>\n", GREEDY, Cancellation())
    assert last.answer is not None
    assert (last.answer.text, last.answer.reasoning) == ("Let me see.\n</think>\n\nSix.", "")


def test_typed_control_tokens_do_not_end_the_reasoning(vlm: ScriptedVLM) -> None:
    """Only the control token does, not the same letters."""
    vlm.scripted.script = [
        *vlm.template.encode_text("I write </think> here."),
        vlm.template.control_token("</think>") or 0,
        *vlm.template.encode_text("\n\nSix."),
    ]
    answer = [*vlm.chat([Turn("user", ("How many?",))], GREEDY)][-1].answer
    assert answer is not None
    assert (answer.reasoning, answer.text) == ("I write </think> here.", "Six.")


def test_an_instruct_model_has_no_reasoning() -> None:
    plain = ScriptedVLM(INSTRUCT_TEMPLATE)
    answer, _ = ask(plain, "\n\nSix. </think> Yes.")
    assert (answer.text, answer.reasoning, answer.usage.reasoning_tokens) == ("\n\nSix. </think> Yes.", "", 0)
    answer, _ = ask(plain, "<think>\nSo.\n</think>\n\nSix.")
    assert (answer.text, answer.reasoning) == ("Six.", "So.")


def test_counts_and_log_probabilities(vlm: ScriptedVLM) -> None:
    """The reasoning counts as output; log probabilities are those of the text alone."""
    answer, chunks = ask(vlm, "Let me see.\n</think>\n\nSix.", Options(temperature=0, logprobs=0))
    thought = len(vlm._tokenizer.encode("Let me see.\n").ids)
    assert answer.usage.reasoning_tokens == thought
    assert answer.usage.completion_tokens == len(answer.tokens) + 1 > thought + 2
    assert b"".join(one.raw for one in answer.logprobs).decode().strip() == "Six."
    assert [one for chunk in chunks for one in chunk.logprobs] == list(answer.logprobs)


def test_stop_strings_end_the_answer_and_not_the_reasoning(vlm: ScriptedVLM) -> None:
    answer, _ = ask(vlm, "One. Two.\n</think>\n\nOne. Two. Six.", Options(temperature=0, stop=("Two",)))
    assert (answer.reasoning, answer.text, answer.finish_reason) == ("One. Two.", "One. ", "stop")
    assert answer.opening == "One. Two.\n</think>\n\n"


@pytest.mark.parametrize("budget", [0, 1, 5])
def test_the_reasoning_ends_when_its_budget_is_used_up(vlm: ScriptedVLM, budget: int) -> None:
    """Guards against an answer that never comes, because the model thinks until the limit."""
    script = vlm.template.encode_text("so " * 50)
    vlm.scripted.script = script
    options = Options(temperature=0, thinking_tokens=budget, max_tokens=20, repetition_guard=False)
    answer = [*vlm.chat([Turn("user", ("How many?",))], options)][-1].answer
    assert answer is not None
    assert answer.usage.reasoning_tokens == budget
    assert answer.tokens[budget] == vlm.template.control_token("</think>")
    assert answer.text
    assert len(answer.tokens) == 20


def test_the_default_budget_leaves_room_for_an_answer(vlm: ScriptedVLM) -> None:
    """Of ``max_tokens``, or of a short context."""
    assert Options().limits(True, 10**6) == (THINKING_TOKENS + 1024, THINKING_TOKENS)
    assert Options().limits(False, 10**6)[0] == 1024
    assert Options(max_tokens=100).limits(True, 10**6) == (100, 75)
    assert Options().limits(True, 400) == (400, 300)
    assert Options(thinking_tokens=0).limits(True, 10**6) == (1024, 0)
    assert Options(thinking_tokens=90, max_tokens=100).limits(True, 10**6) == (100, 90)
    ask(vlm, "So.\n</think>\n\nSix.", Options(temperature=0, thinking_tokens=7))
    assert vlm.scripted.requests[-1].max_tokens == 1024 + 7


@pytest.mark.parametrize("output", ["Two and four.\n</think>\n\n", "Two and four.\n</think>", "So it is {", ""])
def test_with_a_schema_the_reasoning_is_free_and_the_json_follows(vlm: ScriptedVLM, output: str) -> None:
    """Guards against a grammar that forbids the reasoning, and against an end before the JSON."""
    answer, _ = ask(vlm, output + '{"count": 6}', Options(temperature=0, schema=SCHEMA, thinking_tokens=30))
    assert answer.value == json.loads(answer.text)
    if "</think>" in output:
        assert (answer.reasoning, answer.text) == ("Two and four.", '{"count": 6}')
    else:  # the model never ends its reasoning: it is ended, and the JSON is enforced
        assert answer.usage.reasoning_tokens == 30
        assert set(json.loads(answer.text)) == {"count"}


def test_calls_in_the_reasoning_are_no_calls(vlm: ScriptedVLM) -> None:
    vlm.write(f"I could write {CALL} now.\n</think>\n\n{CALL}")
    answer = [*vlm.chat([Turn("user", ("?",))], GREEDY, [TOOL], ToolChoice("required"))][-1].answer
    assert answer is not None
    assert len(answer.tool_calls) == 1
    assert answer.text == CALL
    assert CALL in answer.reasoning


@needs_published
def test_history_keeps_reasoning_in_tool_rounds_and_drops_it_later() -> None:
    """As the published template does, and with the exact tokens of the prefix cache in a tool round."""
    vlm = ScriptedVLM(PUBLISHED_TEMPLATE.read_text("utf-8"))
    conversation = Conversation(vlm, options=GREEDY, tools=[TOOL])
    vlm.write(f"Let me see.\n</think>\n\n{CALL}")
    first = conversation.ask("How many?")
    sent = vlm.scripted.requests[-1].ids.tolist()
    vlm.write("Now I know.\n</think>\n\nSix.")
    for _ in conversation.tool_results(["6"]):
        pass
    again = vlm.scripted.requests[-1].ids.tolist()
    assert again[: len(sent) + len(first.tokens)] == [*sent, *first.tokens]
    vlm.write("</think>\n\nYes.")
    conversation.ask("Sure?")
    last = vlm._tokenizer.decode(vlm.scripted.requests[-1].ids.tolist(), skip_special_tokens=False)
    assert "Let me see" not in last
    assert "Now I know" not in last
    assert "assistant\nSix.<|im_end|>" in last
    assert f"assistant\n{CALL}<|im_end|>" in last


@needs_published
def test_an_interrupted_reasoning_is_kept_as_reasoning() -> None:
    vlm = ScriptedVLM(PUBLISHED_TEMPLATE.read_text("utf-8"))
    conversation = Conversation(vlm, options=GREEDY)
    vlm.write("Let me see what there is.\n</think>\n\nSix.")
    stream = conversation.stream("How many?")
    assert next(stream).reasoning
    stream.close()
    assert conversation.turns[-1].reasoning
    assert conversation.turns[-1].parts == ("",)
    conversation.ask("Sure?")
    prompt = vlm._tokenizer.decode(vlm.scripted.requests[-1].ids.tolist(), skip_special_tokens=False)
    assert "Let" not in prompt


def test_saved_conversations_keep_the_reasoning_apart(tmp_path: object, vlm: ScriptedVLM) -> None:
    path = f"{tmp_path}/saved.json"
    conversation = Conversation(vlm, options=GREEDY)
    vlm.write("Let me see.\n</think>\n\nSix.")
    conversation.ask("How many?")
    conversation.save(path)
    other = ScriptedVLM(THINKING_TEMPLATE)
    for fingerprint in ("scripted", "another"):
        other.fingerprint = fingerprint
        loaded = Conversation(other)
        loaded.load(path)
        if fingerprint == "scripted":
            assert loaded.turns == conversation.turns
            (part,) = loaded.turns[-1].parts
            assert isinstance(part, GeneratedText)
            assert (part.reasoning, part.answer) == ("Let me see.", "Six.")
        else:
            assert loaded.turns[-1] == Turn("assistant", ("Six.",), reasoning="Let me see.")


THINKING = Options(temperature=0, thinking_tokens=6, max_tokens=40)


@pytest.fixture(scope="module")
def thinking_vlm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[vlrun.VLM]:
    """The embedded model with the template of a thinking model. It never ends its reasoning: the budget does."""
    folder = tmp_path_factory.mktemp("model") / "thinking"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (folder / manifests.CHAT_TEMPLATE).write_text(THINKING_TEMPLATE, "utf-8")
    manifest = manifests.read(folder)
    files = {**manifest.files, manifests.CHAT_TEMPLATE: manifests.describe_file(folder / manifests.CHAT_TEMPLATE)}
    manifests.write(replace(manifest, files=files), folder)
    with vlrun.load(folder) as loaded:
        yield loaded


@pytest.mark.slow
def test_a_loaded_model_with_the_template_of_a_thinking_model_answers(thinking_vlm: vlrun.VLM) -> None:
    """Also with prompt lookup and a schema."""
    chunks = list(thinking_vlm.stream(EXAMPLES / "shelf.png", "How many bottles are there?", THINKING))
    answer = chunks[-1].answer
    assert answer is not None
    assert 0 < answer.usage.reasoning_tokens <= 6
    assert answer.usage.completion_tokens <= 40
    assert ("".join(one.reasoning for one in chunks), "".join(one.text for one in chunks)) == (
        answer.reasoning,
        answer.text,
    )
    options = replace(THINKING, schema=SCHEMA, prompt_lookup=True)
    checked = thinking_vlm.ask(EXAMPLES / "shelf.png", "How many?", options)
    assert checked.value == {"count": 6}
    assert checked.usage.cached_tokens > 0


@pytest.mark.slow
def test_the_heat_map_of_a_thinking_model_is_of_its_answer(thinking_vlm: vlrun.VLM) -> None:
    options = replace(THINKING, schema=SCHEMA, heatmap=True)
    heat = thinking_vlm.ask(EXAMPLES / "shelf.png", "How many?", options).heat
    assert heat is not None
    assert "".join(heat.token_texts).strip() == '{"count": 6}'
