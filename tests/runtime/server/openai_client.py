"""Exercises a service with the official client: BASE_URL EXAMPLES. Runs under two major versions of the client.

Prints a line per check; fails at the first error.
"""

# ruff: noqa: PT017, PT018 - a script that fails at the first error, not a test
from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path
from typing import Any

import openai
from openai import OpenAI

BASE_URL, EXAMPLES = sys.argv[1], Path(sys.argv[2])
MODEL = "vlrun-tiny"
QUESTION = "How many bottles are there?"
CLIENT: Any = OpenAI(base_url=f"{BASE_URL}/v1", api_key="none-is-needed-here", max_retries=0, timeout=60)


def image(name: str, detail: str = "auto") -> dict[str, Any]:
    encoded = base64.b64encode((EXAMPLES / name).read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}", "detail": detail}}


def user(*parts: object) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]}


SHELF = user(image("shelf.png"), QUESTION)
COUNT: dict[str, Any] = {
    "type": "object",
    "properties": {"bottles": {"type": "integer"}, "cans": {"type": "integer"}},
    "required": ["bottles", "cans"],
    "additionalProperties": False,
}


def chat(**more: Any) -> Any:
    return CLIENT.chat.completions.create(**{"model": MODEL, "messages": [SHELF], "temperature": 0, **more})


def plain() -> None:
    answer = chat()
    assert answer.choices[0].message.content == "6", answer
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens > 60
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    again = chat()
    assert again.usage.prompt_tokens_details.cached_tokens > 60, again.usage
    assert again.timings["total"] > 0


def streamed() -> None:
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "6"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens >= 1
    assert all(chunk.usage is None for chunk in chunks[:-1])


def progress() -> None:
    fresh = user(image("shapes.png"), "What is there?")
    chunks = list(chat(messages=[fresh], stream=True, stream_options={"include_progress": True}))
    received = [chunk.vlrun["progress"] for chunk in chunks if getattr(chunk, "vlrun", None)]
    assert received and received[-1]["percent"] <= 100 and {"vision"} <= {t["phase"] for t in received}, received


def turns() -> None:
    first = chat()
    messages = [SHELF, {"role": "assistant", "content": first.choices[0].message.content}]
    messages.append({"role": "user", "content": "How many cans are there?"})
    answer = chat(messages=messages)
    assert answer.choices[0].message.content.isdigit()
    assert answer.usage.prompt_tokens_details.cached_tokens > 60


def images() -> None:
    both = user(image("shelf.png"), image("shelf_two.png", "low"), "Which picture has more bottles?")
    answer = chat(messages=[both])
    assert answer.choices[0].message.content in ("1", "2", "Picture 1", "Picture 2"), answer
    assert answer.usage.prompt_tokens_details.image_tokens > 100


def chinese() -> None:
    answer = chat(messages=[user(image("shelf.png"), "有多少个瓶子？")])
    assert "6" in answer.choices[0].message.content, answer


def schema() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "count", "schema": COUNT, "strict": True}}
    question = user(image("shelf.png"), "Count the bottles and cans. Answer in JSON.")
    answer = chat(messages=[question], response_format=wanted)
    assert json.loads(answer.choices[0].message.content)["bottles"] == 6, answer
    streamed = chat(messages=[question], response_format=wanted, stream=True)
    text = "".join(c.choices[0].delta.content or "" for c in streamed if c.choices)
    assert text == answer.choices[0].message.content
    anything = chat(messages=[question], response_format={"type": "json_object"}, max_tokens=200)
    assert anything.choices[0].finish_reason != "stop" or isinstance(
        json.loads(anything.choices[0].message.content), dict
    )


def parsed() -> None:
    from pydantic import BaseModel

    class Count(BaseModel):
        bottles: int
        cans: int

    question = user(image("shelf.png"), "Count the bottles and cans. Answer in JSON.")
    parse = CLIENT.chat.completions.parse
    answer = parse(model=MODEL, messages=[question], temperature=0, response_format=Count)
    assert answer.choices[0].message.parsed.bottles == 6


TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "report_count", "description": "Report.", "parameters": COUNT},
}


def tools() -> None:
    question = user(image("shelf.png"), "Count the bottles and cans.")
    forced = {"type": "function", "function": {"name": "report_count"}}
    for choice in (forced, "required"):
        answer = chat(messages=[question], tools=[TOOL], tool_choice=choice, parallel_tool_calls=False)
        (call,) = answer.choices[0].message.tool_calls
        assert answer.choices[0].finish_reason == "tool_calls"
        assert call.function.name == "report_count"
        assert json.loads(call.function.arguments) == {"bottles": 6, "cans": 1}
    with_result = [
        question,
        answer.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "noted"},
        {"role": "user", "content": QUESTION},
    ]
    assert chat(messages=with_result, tools=[TOOL], tool_choice="none").choices[0].message.content
    deltas = chat(messages=[question], tools=[TOOL], tool_choice=forced, parallel_tool_calls=False, stream=True)
    calls = [call for c in deltas if c.choices for call in c.choices[0].delta.tool_calls or ()]
    assert calls[0].function.name == "report_count" and json.loads("".join(c.function.arguments for c in calls))
    assert chat(messages=[question], tools=[TOOL]).choices[0].message.tool_calls[0].function.name == "report_count"
    assert chat(tools=[TOOL]).choices[0].message.content == "6"


def several() -> None:
    answer = chat(n=3, temperature=1, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    same = chat(n=3, temperature=1, seed=1)
    assert [c.message.content for c in same.choices] == [c.message.content for c in answer.choices]
    streamed = chat(n=2, stream=True)
    texts = ["", ""]
    for chunk in streamed:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == ["6", "6"]


def logprobs() -> None:
    answer = chat(logprobs=True, top_logprobs=2)
    (token, *_) = answer.choices[0].logprobs.content
    assert token.token == "6" and -0.5 < token.logprob <= 0 and len(token.top_logprobs) == 2, token
    assert bytes(token.bytes) == b"6"


def endings() -> None:
    cut = chat(messages=[user(image("shelf.png"), "Describe this image.")], max_tokens=3)
    assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 3
    whole = chat(messages=[user(image("shelf.png"), "Describe this image.")])
    word = whole.choices[0].message.content.split()[2]
    stopped = chat(messages=[user(image("shelf.png"), "Describe this image.")], stop=[word])
    assert stopped.choices[0].finish_reason == "stop"
    assert word not in stopped.choices[0].message.content


def responses() -> None:
    encoded = image("shelf.png")["image_url"]["url"]
    content = [
        {"type": "input_image", "image_url": encoded, "detail": "auto"},
        {"type": "input_text", "text": QUESTION},
    ]
    items = [{"role": "user", "content": content}]
    answer = CLIENT.responses.create(model=MODEL, input=items, temperature=0)
    assert answer.output_text == "6" and answer.status == "completed", answer
    events = list(CLIENT.responses.create(model=MODEL, input=items, temperature=0, stream=True))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "6"
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    assert events[-1].response.output_text == "6"
    with CLIENT.responses.stream(model=MODEL, input=items, temperature=0) as stream:
        assert stream.get_final_response().output_text == "6"
    tool = {"type": "function", "name": "report_count", "parameters": COUNT, "strict": True}
    called = CLIENT.responses.create(
        model=MODEL, input=items, temperature=0, tools=[tool], tool_choice="required", parallel_tool_calls=False
    )
    assert called.output[0].type == "function_call" and json.loads(called.output[0].arguments) == {
        "bottles": 6,
        "cans": 1,
    }


def models() -> None:
    assert [model.id for model in CLIENT.models.list()] == [MODEL]
    assert CLIENT.models.retrieve(MODEL).owned_by == "vlrun"


def texts() -> None:
    """Of the former endpoint: a prompt in the chat template is the same as a chat."""
    expected = chat(messages=[user("Who are you?")]).choices[0].message.content
    prompt = "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
    more = {"model": MODEL, "temperature": 0}
    answer = CLIENT.completions.create(prompt=prompt, **more)
    assert answer.choices[0].text == expected and answer.choices[0].finish_reason == "stop", answer
    assert answer.object == "text_completion" and answer.usage.prompt_tokens > 5
    streamed = list(CLIENT.completions.create(prompt=prompt, stream=True, echo=True, **more))
    assert "".join(chunk.choices[0].text for chunk in streamed) == prompt + expected
    both = CLIENT.completions.create(prompt=[prompt, "1, 2, 3,"], max_tokens=4, logprobs=2, **more)
    assert [choice.index for choice in both.choices] == [0, 1] and expected.startswith(both.choices[0].text)
    assert len(both.choices[0].logprobs.tokens) == 4 and both.usage.completion_tokens == 8


def errors() -> None:
    for status, kind, more in (
        (404, openai.NotFoundError, {"model": "gpt-5"}),
        (400, openai.BadRequestError, {"temperature": 9}),
        (400, openai.BadRequestError, {"extra_body": {"chat_template": "{{ 1 }}"}}),
        (
            400,
            openai.BadRequestError,
            {"messages": [user({"type": "image_url", "image_url": {"url": "http://x/y.png"}})]},
        ),
    ):
        try:
            chat(**more)
        except kind as error:
            assert error.status_code == status and error.body["message"], error
            print("  ", error.body["code"], error.body["param"], error.body["message"])
        else:
            raise AssertionError(more)
    try:
        list(chat(messages=[user("a " * 5000)], stream=True))
    except openai.BadRequestError as error:
        assert error.code == "context_length_exceeded", error
    else:
        raise AssertionError("too long")


def main() -> None:
    print("openai", openai.__version__)
    for check in (
        plain, streamed, progress, turns, images, chinese, schema, parsed, several, logprobs, endings,
        texts, models, errors, responses, tools,
    ):  # fmt: skip
        began = time.monotonic()
        check()
        print(f"{check.__name__}: ok, {time.monotonic() - began:.2f} s", flush=True)


main()
