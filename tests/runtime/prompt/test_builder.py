"""Building prompts: budgets of visual tokens, image numbers, context length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vlrun import manifest as manifests
from vlrun.embedded import FOLDER
from vlrun.errors import ContextLengthExceeded, OptionError
from vlrun.media.image import Image, open_image
from vlrun.models.qwen3_vl.family import QWEN3_VL
from vlrun.prompt.builder import MAX_IMAGES, PromptBuilder, number_images, user_turn
from vlrun.prompt.chat_template import ChatTemplate, ImagePlaceholder
from vlrun.prompt.tokenizer import parse_tokenizer
from vlrun.types.options import Options
from vlrun.types.turn import Turn

TINY = manifests.read(FOLDER)
PUBLISHED = replace(
    TINY,
    preprocessing=replace(TINY.preprocessing, min_pixels=65_536, max_pixels=16_777_216),
    text=replace(TINY.text, max_positions=262_144),
)
"""The embedded model with the limits of Qwen3-VL-2B."""
TEMPLATE = ChatTemplate(
    (FOLDER / "chat_template.jinja").read_text("utf-8"),
    parse_tokenizer((FOLDER / "tokenizer.json").read_bytes(), "tokenizer.json"),
    TINY.tokens.image,
)


def image(width: int, height: int) -> Image:
    return open_image(np.zeros((height, width, 3), np.uint8))


def tokens(width: int, height: int, options: Options, auto: int = 2560) -> int:
    built = PromptBuilder(PUBLISHED, TEMPLATE, auto).build([user_turn(image(width, height), "What?")], options)
    return built.images[0][1].tokens


@pytest.mark.parametrize(
    ("options", "auto", "limit"),
    [
        (Options(), 2560, 1280),
        (Options(detail="low"), 2560, 256),
        (Options(detail="high"), 2560, 2560),
        (Options(max_image_tokens=700, detail="high"), 2560, 700),
        (Options(auto_image_tokens=2560), 2560, 2560),
        (Options(auto_image_tokens=2560), 1280, 1280),
        (Options(), 512, 512),
        (Options(auto_image_tokens=2560), 512, 512),
        (Options(min_image_tokens=1024, auto_image_tokens=2560), 512, 1024),
        (Options(detail="high"), 512, 2560),
    ],
)
def test_large_photos_use_their_whole_budget(options: Options, auto: int, limit: int) -> None:
    """A phone photo without a budget would take 16,384 visual tokens."""
    assert 0.9 * limit <= tokens(4000, 3000, options, auto) <= limit


def test_a_reduced_budget_is_noted() -> None:
    """Guards against detail that is lowered silently."""
    for size, auto, notes in (((4000, 3000), 512, 1), ((640, 480), 512, 0), ((4000, 3000), 1280, 0)):
        built = PromptBuilder(PUBLISHED, TEMPLATE, auto).build([user_turn(image(*size), "What?")], Options())
        assert len(built.notes) == notes
    low = PromptBuilder(PUBLISHED, TEMPLATE, 512).build([user_turn(image(4000, 3000), "?")], Options(detail="low"))
    assert not low.notes


def test_small_images_are_not_enlarged() -> None:
    """Only an explicit minimum enlarges."""
    assert tokens(640, 480, Options()) == 300
    assert tokens(256, 256, Options()) == 64
    assert 1024 <= tokens(256, 256, Options(min_image_tokens=1024)) <= 1280
    assert tokens(640, 480, Options(min_image_tokens=1024, max_image_tokens=256)) <= 256


def test_budgets_below_the_models_minimum_are_refused() -> None:
    with pytest.raises(OptionError, match="needs at least 64"):
        tokens(640, 480, Options(max_image_tokens=10))


def test_too_many_images_are_refused() -> None:
    builder = PromptBuilder(PUBLISHED, TEMPLATE)
    with pytest.raises(OptionError, match=f"at most {MAX_IMAGES} images"):
        builder.build([user_turn([image(32, 32)] * (MAX_IMAGES + 1), "What?")], Options())


def test_prompts_longer_than_the_context_are_refused() -> None:
    builder = PromptBuilder(PUBLISHED, TEMPLATE)
    built = builder.build([user_turn(image(640, 480), "What?")], Options())
    builder.check_context(built, None)
    with pytest.raises(ContextLengthExceeded, match=r"300 of images, .* the context is 100"):
        builder.check_context(built, 100)


def test_images_are_numbered_unless_the_first_turn_has_only_one() -> None:
    """Numbers continue in later turns."""
    square = image(32, 32)
    first, second = number_images([Turn("user", (square, "a")), Turn("user", (square, square, "b"))], QWEN3_VL)
    assert first.parts == (ImagePlaceholder(), "a")
    assert second.parts == ("Picture 2: ", ImagePlaceholder(), "Picture 3: ", ImagePlaceholder(), "b")
    (both,) = number_images([Turn("user", (square, square, "a"))], QWEN3_VL)
    assert both.parts == ("Picture 1: ", ImagePlaceholder(), "Picture 2: ", ImagePlaceholder(), "a")
