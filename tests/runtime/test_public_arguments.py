"""Every argument of the public API, with values of wrong types: an error of vlrun that names the argument."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlrun
from tests.video_clips import video
from vlrun.errors import MediaError, OptionError
from vlrun.media.clip import make_clip

OUTPUTS = frozenset(
    {
        "Answer",
        "CameraFrame",
        "Chunk",
        "Heat",
        "Outcome",
        "TaskResult",
        "TimeSpan",
        "Timings",
        "Usage",
        "VlrunError",
        "WindowAnswer",
    }
)
"""Values that vlrun makes for its callers."""
WRONG: list[object] = [object(), 5, 1.5, True, "x", b"x", [], ["x"], [5], (None,), {}, {"x": 5}, {5: 5}, len, int]
WRONG += [np.int64(5), np.zeros(3), np.zeros((2, 2, 3), np.uint8), float("nan"), -(10**30), "", "\0", Path("x"), set()]

IMAGE = vlrun.open_image(np.zeros((64, 64, 3), np.uint8))
MARK = vlrun.Mark("x", (1, 2, 3, 4), None)
TASK = vlrun.Task(about="a", prompt={"en": "b"})
TURN = vlrun.Turn("user", ("Hello",))
HEAT = vlrun.Heat((np.ones((2, 3, 3), np.float32),), ("a", "b"), (((0, 0), (9, 0), (0, 9)),))
TRANSFORM = vlrun.ImageTransform((4, 4))
CLIP = make_clip([(0.0, np.zeros((8, 8, 3), np.uint8))], (8, 8))
VIDEO_OPTIONS = {"fps": 1.0, "max_frames": 4, "max_pixels": 5000, "start": 0.0, "end": 9.5, "keyframes": False}

CALLS: Mapping[str, tuple[Callable[..., object], dict[str, object]]] = {
    "CacheConfig": (vlrun.CacheConfig, {"context": 5, "kv_memory": 5, "kv_disk": 5, "keep_vision_encoder": True}),
    "Camera": (vlrun.Camera, {"source": "/dev/video99"}),
    "Heat.mean": (HEAT.mean, {"word": "a", "image": 0}),
    "Hints": (
        vlrun.Hints,
        {
            "device": "CPU",
            "backend": "openvino",
            "threads": 1,
            "decoder_precision": "f32",
            "vision_precision": "f32",
            "kv_precision": "u8",
            "group_size": 8,
        },
    ),
    "Image": (vlrun.Image, {"rgb": IMAGE.rgb, "sha256": "", "notes": (), "transform": None, "label": ""}),
    "ImageTransform": (vlrun.ImageTransform, {"size": (4, 4), "matrix": TRANSFORM.matrix}),
    "ImageTransform.point": (TRANSFORM.point, {"x": 1, "y": 1}),
    "ImageTransform.box": (TRANSFORM.box, {"left": 1, "top": 1, "right": 2, "bottom": 2}),
    "Mark": (vlrun.Mark, {"label": "x", "box": (1, 2, 3, 4), "point": None, "span": (0, 1)}),
    "Options": (
        vlrun.Options,
        {
            "max_tokens": 5,
            "temperature": 1.0,
            "top_k": 5,
            "top_p": 0.5,
            "min_p": 0.5,
            "repetition_penalty": 1.0,
            "presence_penalty": 1.0,
            "frequency_penalty": 1.0,
            "seed": 5,
            "stop": ("x",),
            "detail": "low",
            "max_image_tokens": 5,
            "min_image_tokens": 5,
            "auto_image_tokens": 5,
            "repetition_guard": True,
            "prompt_lookup": True,
            "heatmap": True,
            "logprobs": 5,
            "thinking_tokens": 5,
            "progress": True,
        },
    ),
    "Region": (vlrun.Region, {"x": 1, "y": 1, "width": 5, "height": 5, "thousandths": False}),
    "Task": (vlrun.Task, {"about": "a", "prompt": {"en": "b"}, "steps": {}, "anything": {}, "schema": None}),
    "TaskArguments": (vlrun.TaskArguments, {"items": ("x",), "fields": ("x",)}),
    "TaskRequest": (
        vlrun.TaskRequest,
        {
            "question": "x",
            "task": None,
            "arguments": vlrun.TaskArguments(),
            "tiles": vlrun.Tiles(1, 2),
            "votes": 1,
            "steps": True,
            "system": "x",
            "language": "en",
        },
    ),
    "Tiles": (vlrun.Tiles, {"columns": 1, "rows": 2}),
    "ToolCall": (vlrun.ToolCall, {"name": "x", "arguments": "{}"}),
    "Turn": (vlrun.Turn, {"role": "user", "parts": ("x",), "tool_calls": (), "details": (), "reasoning": None}),
    "crop": (vlrun.crop, {"image": IMAGE, "region": vlrun.Region(1, 1, 5, 5)}),
    "draw_marks": (vlrun.draw_marks, {"image": IMAGE, "marks": [MARK]}),
    "enhance": (vlrun.enhance, {"image": IMAGE}),
    "load": (vlrun.load, {"folder": "/no/such", "hints": None, "cache": None, "wait": False}),
    "load_tasks": (vlrun.load_tasks, {"path": "/no/such"}),
    "Clip": (
        vlrun.Clip,
        {
            "pairs": CLIP.pairs,
            "size": (8, 8),
            "frames": 1,
            "notes": (),
            "label": "x",
            "fixed": False,
        },
    ),
    "Video": (vlrun.Video, {"source": "/no/such", **VIDEO_OPTIONS}),
    "open_video": (vlrun.open_video, {"source": video(2), **VIDEO_OPTIONS}),
    "Pdf": (vlrun.Pdf, {"source": "/no/such", "pages": "1"}),
    "open_image": (vlrun.open_image, {"source": "/no/such"}),
    "open_pages": (vlrun.open_pages, {"source": "/no/such", "pages": "1"}),
    "overlay_heat": (vlrun.overlay_heat, {"image": IMAGE, "heat": np.ones((3, 3), np.float32)}),
}

ELSEWHERE = frozenset({"Options.schema", "Task.items", "Task.fields", "Task.images", "Task.image_tokens"}) | frozenset(
    {"Task.sampling", "Task.merge", "open_image.limits", "open_video.limits", "Hints.device", "Camera.on_error"}
)
"""Checked when they are used, or when a task file is read."""


OBJECTS = frozenset(
    {"arguments", "cache", "cancellation", "choice", "hints", "options", "region", "request", "task", "tiles", "vlm"}
)
"""Arguments for which every wrong value is refused, also an empty one."""


def check_calls(calls: Mapping[str, tuple[Callable[..., object], dict[str, Any]]]) -> Iterator[str]:
    """Yield what is wrong: another error than vlrun's, one that does not name its argument, or none."""
    for name, (call, valid) in calls.items():
        for argument in valid:
            for value in WRONG:
                where = f"{name}({argument}={value!r:.60})"
                if isinstance(value, str | Path | np.ndarray) or type(value) is type(valid[argument]):
                    named = ""  # the type may be right, and only the value wrong
                else:
                    named = argument
                try:
                    call(**{**valid, argument: value})
                except vlrun.VlrunError as error:
                    text = re.sub(r"\b(image|video)\b", "source images", str(error))
                    if named not in text or (named and not isinstance(error, OptionError | MediaError)):
                        yield f"{where} raises {error!r}"
                except Exception as error:  # noqa: BLE001 - that is what the test looks for
                    yield f"{where} raises {error!r}"
                else:
                    if type(value) is object or (argument in OBJECTS and name != "ToolCall"):
                        yield f"{where} is accepted"


def test_wrong_types_get_an_error_that_names_the_argument() -> None:
    """Guards against a TypeError from within, and against values that are silently taken for a default."""
    assert not list(check_calls(CALLS))


def test_every_public_name_is_covered() -> None:
    covered = (
        {name.partition(".")[0] for name in CALLS}
        | OUTPUTS
        | {"VLM", "Conversation", "find_images", "run_task", "ask_windows"}
    )
    assert covered == set(vlrun.__all__)
    for name, (call, valid) in CALLS.items():
        parameters = {f"{name}.{parameter}" for parameter in inspect.signature(call).parameters}
        assert parameters - ELSEWHERE <= {f"{name}.{argument}" for argument in valid}, name


def test_numpy_numbers_are_numbers() -> None:
    """NumPy's integers were "not a whole number"."""
    options = vlrun.Options(max_tokens=np.int64(5), temperature=np.float32(0.5), seed=np.uint8(3), heatmap=np.True_)  # type: ignore[arg-type]
    assert options == vlrun.Options(max_tokens=5, temperature=0.5, seed=3, heatmap=True)
    assert type(options.max_tokens) is int
    assert vlrun.CacheConfig(context=np.int32(5)) == vlrun.CacheConfig(context=5)  # type: ignore[arg-type]
    assert vlrun.Tiles(np.int64(1), np.int64(2)) == vlrun.Tiles(1, 2)  # type: ignore[arg-type]
    assert vlrun.TaskRequest(votes=np.int16(3)).votes == 3  # type: ignore[arg-type]
    region = vlrun.Region(*np.array([1, 2, 3, 4]))
    assert vlrun.crop(IMAGE, region).size == (3, 4)


@pytest.mark.slow
def test_wrong_types_for_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # one of the paths can be written
    question, tools = "Hi", [{"type": "function", "function": {"name": "now"}}]
    with vlrun.load() as vlm:
        conversation = vlrun.Conversation(vlm)
        calls: dict[str, tuple[Callable[..., object], dict[str, Any]]] = {
            "stream": (vlm.stream, {"images": IMAGE, "question": question, "options": None, "system": "x"}),
            "chat": (
                vlm.chat,
                {"turns": [TURN], "options": None, "tools": tools, "choice": None, "cancellation": None},
            ),
            "ask_each": (vlm.ask_each, {"sources": [], "question": question, "options": None, "system": "x"}),
            "score": (vlm.score, {"images": [], "question": question, "answer": "6"}),
            "build_prompt": (vlm.build_prompt, {"turns": [TURN], "tools": tools}),
            "ask_windows": (
                vlrun.ask_windows,
                {"vlm": vlm, "source": "/no/such", "question": question, "options": None},
            ),
            "run_task": (
                vlrun.run_task,
                {"vlm": vlm, "images": IMAGE, "request": vlrun.TaskRequest("Hi"), "options": vlrun.Options(1)},
            ),
            "Conversation": (vlrun.Conversation, {"vlm": vlm, "system": "x", "options": None, "tools": tools}),
            "Conversation.stream": (conversation.stream, {"question": question, "images": (), "options": None}),
            "Conversation.tool_results": (conversation.tool_results, {"results": ["x"]}),
            "Conversation.save": (conversation.save, {"path": "/no/such/file"}),
            "Conversation.load": (conversation.load, {"path": "/no/such/file"}),
        }
        assert not list(check_calls(calls))
