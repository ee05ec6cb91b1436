"""The prompt of a video has the ids of transformers' processor: with both published templates, and with images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.published import PUBLISHED, THINKING_TEMPLATE, needs_published
from vlrun.embedded import FOLDER
from vlrun.errors import OptionError
from vlrun.prompt.chat_template import ChatTemplate, ImagePlaceholder, Message, VideoPlaceholder
from vlrun.prompt.tokenizer import parse_tokenizer
from vlrun.prompt.visual_tokens import ClipTokens

TEXTS = st.sampled_from(["", " ", "Hi", "What?", "a<", "\n", "几个？", "at 3 ", "<0.3 seconds>", "<|video_pad|>"])
CLIPS = st.builds(
    lambda count, tokens, fps, total: (tuple(total * index // count for index in range(count)), tokens, fps),
    st.integers(1, 9),
    st.integers(1, 5),
    st.sampled_from([10.0, 24.0, 29.97, 1.0]),
    st.integers(9, 4000),
)
PARTS = st.lists(st.one_of(TEXTS, st.just(ImagePlaceholder()), CLIPS), min_size=1, max_size=6)
SOURCES = [
    pytest.param(FOLDER, FOLDER / "chat_template.jinja", id="tiny"),
    pytest.param(PUBLISHED, PUBLISHED / "chat_template.jinja", marks=needs_published, id="instruct"),
    pytest.param(PUBLISHED, THINKING_TEMPLATE, marks=needs_published, id="thinking"),
]


def template_of(folder: Path, source: Path) -> ChatTemplate:
    tokenizer = parse_tokenizer((folder / "tokenizer.json").read_bytes(), "tokenizer.json")
    ids = (tokenizer.token_to_id(f"<|{name}_pad|>") for name in ("image", "video"))
    return ChatTemplate(source.read_text("utf-8"), tokenizer, *ids)


TINY = template_of(FOLDER, FOLDER / "chat_template.jinja")


class Processor:
    """transformers' processor, without its image and video processors, which need torchvision."""

    def __init__(self, folder: Path, source: Path) -> None:
        transformers = pytest.importorskip("transformers", reason="needs the workbench packages")
        from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

        tokenizer = parse_tokenizer((folder / "tokenizer.json").read_bytes(), "tokenizer.json")
        self._source = source.read_text("utf-8")
        self._tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
        self._processor = object.__new__(Qwen3VLProcessor)
        for name in ("image", "video"):
            setattr(self._processor, f"{name}_token", f"<|{name}_pad|>")
            setattr(self._processor, f"{name}_token_id", tokenizer.token_to_id(f"<|{name}_pad|>"))
        self._processor.vision_start_token, self._processor.vision_end_token = "<|vision_start|>", "<|vision_end|>"
        self._processor.tokenizer = self._tokenizer
        self._processor._merge_kwargs = lambda *args, **kwargs: {
            "images_kwargs": {}, "videos_kwargs": {}, "text_kwargs": {"add_special_tokens": False},
        }  # fmt: skip
        self._processor._check_special_mm_tokens = lambda *args, **kwargs: None

    def ids(self, parts: list[Any]) -> list[int]:
        torch = pytest.importorskip("torch", reason="needs the workbench packages")
        content = [
            {"type": "text", "text": part} if isinstance(part, str)
            else {"type": "image"} if isinstance(part, ImagePlaceholder) else {"type": "video"}
            for part in parts
        ]  # fmt: skip
        text = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=False, add_generation_prompt=True, chat_template=self._source,
        )  # fmt: skip
        clips = [part for part in parts if isinstance(part, tuple)]
        pairs = [[(len(indices) + 1) // 2, 2, 2 * tokens] for indices, tokens, _ in clips]
        metadata = [SimpleNamespace(fps=fps, frames_indices=list(indices)) for indices, _, fps in clips]
        images = sum(isinstance(part, ImagePlaceholder) for part in parts)
        processor = self._processor
        processor.image_processor = _Stub({"image_grid_thw": torch.tensor([[1, 2, 6]] * images)})
        processor.video_processor = _Stub({"video_grid_thw": torch.tensor(pairs), "video_metadata": metadata})
        given_images, given_clips = ([1] if images else None), ([1] if clips else None)
        encoded = processor(text=[text], images=given_images, videos=given_clips)
        ids: list[int] = encoded["input_ids"][0]
        return ids


class _Stub:
    merge_size = 2

    def __init__(self, result: dict[str, Any]) -> None:
        self._result = result

    def __call__(self, **given: object) -> dict[str, Any]:
        return dict(self._result)


def ours(template: ChatTemplate, parts: list[Any]) -> tuple[list[int], list[int]]:
    from vlrun.media.frame_sampling import pair_times

    placed = tuple(VideoPlaceholder() if isinstance(part, tuple) else part for part in parts)
    counts: list[int | ClipTokens] = []
    for part in parts:
        if isinstance(part, ImagePlaceholder):
            counts.append(3)
        elif isinstance(part, tuple):
            indices, tokens, fps = part
            counts.append(ClipTokens(tuple(pair_times([index / fps for index in indices])), tokens))
    prompt = template.encode([Message("user", placed)], counts)
    return list(prompt.ids), list(prompt.image_offsets)


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "source"), SOURCES)
def test_the_ids_are_those_of_transformers(folder: Path, source: Path) -> None:
    """Times are tokenized with the text before them: "a<" and "<0.3 seconds>" share a token."""
    processor, template = Processor(folder, source), template_of(folder, source)

    @given(PARTS)
    @settings(max_examples=25, deadline=None)
    def check(parts: list[Any]) -> None:
        harmless = [part for part in parts if part != "<|video_pad|>"]
        assert ours(template, harmless)[0] == processor.ids(harmless)

    check()


@given(PARTS)
@settings(max_examples=30, deadline=None)
def test_each_pair_begins_where_the_prompt_says(parts: list[Any]) -> None:
    """Also with a text that looks like a placeholder."""
    template = TINY
    ids, offsets = ours(template, parts)
    pads = [template.control_token(f"<|{name}_pad|>") for name in ("image", "video")]
    start, end = (template.control_token(f"<|vision_{name}|>") for name in ("start", "end"))
    begins = [index for index, token in enumerate(ids) if token in pads and ids[index - 1] == start]
    assert offsets == begins
    counts: list[int] = []
    for part in parts:
        if isinstance(part, ImagePlaceholder):
            counts.append(3)
        elif isinstance(part, tuple):
            counts += [part[1]] * ((len(part[0]) + 1) // 2)
    assert [ids[begin + count] for begin, count in zip(begins, counts, strict=True)] == [end] * len(begins)


def test_a_template_that_shows_something_else_is_refused() -> None:
    tokenizer = parse_tokenizer((FOLDER / "tokenizer.json").read_bytes(), "tokenizer.json")
    image, video = (tokenizer.token_to_id(f"<|{name}_pad|>") for name in ("image", "video"))
    clip, message = ClipTokens((0.0,), 1), [Message("user", (VideoPlaceholder(),))]
    for source, problem in (
        ("<|video_pad|>", "no control tokens around videos"),
        ("<|vision_start|><|image_pad|><|vision_end|>", "in another order"),
        ("nothing", "0 image placeholders for 1 images"),
        ("<|vision_start|><|video_pad|><|vision_end|>" * 2, "more image placeholders"),
    ):
        with pytest.raises(OptionError, match=problem):
            ChatTemplate(source, tokenizer, image, video).encode(message, [clip])
