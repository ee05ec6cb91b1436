"""Building prompts: budgets of visual tokens, image numbers, context length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.runtime.media.test_image import END, header, png
from vlrun import manifest as manifests
from vlrun.embedded import FOLDER
from vlrun.errors import ContextLengthExceeded, DamagedMedia, DamagedModel, MediaTooLarge, OptionError, VlrunError
from vlrun.manifest import Manifest
from vlrun.media.image import Image, open_image
from vlrun.media.pending_image import MAX_IMAGES
from vlrun.models.qwen3_vl.family import QWEN3_VL
from vlrun.perf.history import SpeedHistory
from vlrun.perf.profile import SpeedProfile
from vlrun.prompt.builder import PromptBuilder, number_images, user_turn
from vlrun.prompt.chat_template import ChatTemplate, ImagePlaceholder
from vlrun.prompt.tokenizer import parse_tokenizer
from vlrun.tasks.definition import TaskArguments, built_in_tasks
from vlrun.tasks.request import TaskRequest
from vlrun.types.options import Detail, Options
from vlrun.types.turn import GeneratedText, Tool, Turn
from vlrun.types.video_rules import PUBLISHED_RULES
from vlrun.vision.patches import cut

TINY = manifests.read(FOLDER)
PUBLISHED = replace(
    TINY,
    preprocessing=replace(TINY.preprocessing, min_pixels=65_536, max_pixels=16_777_216),
    text=replace(TINY.text, max_positions=262_144),
    video=PUBLISHED_RULES,
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
    for size, auto, notes in (((4000, 3000), 1024, 1), ((640, 480), 1024, 0), ((4000, 3000), 1280, 0)):
        turn = user_turn(image(*size), "What?")
        built = PromptBuilder(PUBLISHED, TEMPLATE, auto).build([turn], Options())
        assert len(built.notes) == notes
        for note in built.notes:
            assert note.startswith("limited to 1,024 visual tokens per image, because this machine takes long")
            assert "--detail high" in note
    details: tuple[Detail, ...] = ("low", "high")
    for detail in details:
        options = Options(detail=detail)
        assert not PromptBuilder(PUBLISHED, TEMPLATE, 1024).build([turn], options).notes


def test_no_task_gets_less_than_it_needs_on_the_slowest_machine() -> None:
    """Guards against a dense invoice that was reduced to 256 visual tokens, which nobody can read."""
    given = {"required": ("bottle",), "optional": (), "none": ()}
    slowest = SpeedHistory()
    for hour in range(8):
        slowest = slowest.with_measured(SpeedProfile({256: 1e6}, prefill=100.0), 1e9 + 3600 * hour)
    floor = slowest.auto_image_tokens(1e9 + 8 * 3600)
    assert floor == 1024
    sizes = ((4000, 3000), (1240, 1754), (1024, 768), (640, 480), (3000, 200))
    turns = [user_turn(image(*size), "What?") for size in sizes]
    full, reduced = PromptBuilder(PUBLISHED, TEMPLATE), PromptBuilder(PUBLISHED, TEMPLATE, floor)
    for task in [None, *built_in_tasks().values()]:
        names = TaskArguments(given[task.items], given[task.fields]) if task else TaskArguments()
        options = TaskRequest("What?" if task is None else None, task, names).options(Options())
        for turn in turns:
            (wanted,), (got,) = (built.build([turn], options).images for built in (full, reduced))
            assert got[1].tokens >= min(0.9 * floor, wanted[1].tokens), (task, turn.parts[0])


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


@pytest.mark.parametrize(
    ("manifest", "context", "images", "advice"),
    [
        (TINY, None, 0, "send less text or fewer tools, or use another model"),
        (PUBLISHED, 2000, 0, "send less text or fewer tools, or raise the context, up to 262144"),
        (PUBLISHED, 2000, 9, "send fewer images or lower max_image_tokens, or raise the context, up to 262144"),
    ],
)
def test_a_prompt_that_is_too_long_says_what_to_do(
    manifest: Manifest, context: int | None, images: int, advice: str
) -> None:
    """Open WebUI's 30 KB of tools got the advice to use fewer images, and only on the command line."""
    text = "Look something up and return what was found, as text. " * (2 if images else 30)
    tools: list[Tool] = [{"type": "function", "function": {"name": f"f{n}", "description": text}} for n in range(18)]
    if not images:
        assert len(str(tools)) > 30_000
    turns = [user_turn([image(640, 640)] * images, "How many bottles are there?")]
    builder = PromptBuilder(manifest, TEMPLATE)
    with pytest.raises(ContextLengthExceeded) as raised:
        builder.check_context(builder.build(turns, Options(), tools), context)
    assert raised.value.message.endswith(
        f"of text and tools), but the context is {context or 4096}, one of them for the answer: {advice}"
    )
    assert str(raised.value) == raised.value.message


def header_only(width: int, height: int) -> bytes:
    """A PNG that has a header and no pixels: decoding it fails."""
    return png(header(width, height), END)


@pytest.mark.parametrize(
    ("sources", "context", "error", "message"),
    [
        ([header_only(4000, 3000)] * 120, None, OptionError, f"at most {MAX_IMAGES} images, not 120"),
        ([header_only(8000, 10_000)] * 13, None, MediaTooLarge, "more than 1,000 megapixels together"),
        ([header_only(4000, 3000)] * 4, 4096, ContextLengthExceeded, r"have \d{4} tokens, but the context is 4096"),
        ([header_only(10, 4000)], None, MediaTooLarge, "too narrow a strip"),
        ([header_only(10, 10)], None, DamagedMedia, "damaged"),
    ],
    ids=["count", "pixels", "context", "strip", "none"],
)
def test_images_are_counted_before_any_is_decoded(
    sources: list[bytes], context: int | None, error: type[VlrunError], message: str
) -> None:
    """120 photos took 41 s and 4.4 GB before they were refused."""
    builder = PromptBuilder(PUBLISHED, TEMPLATE)
    with pytest.raises(error, match=message):
        builder.question_turn(sources, "What?", Options(), context)


def test_a_resized_image_gives_the_same_prompt() -> None:
    """Hashes, notes, grids and the size that coordinates refer to are those of the original; only the pixels differ."""
    builder = PromptBuilder(PUBLISHED, TEMPLATE)
    source = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    options = Options(max_image_tokens=100)
    resized = builder.build([builder.question_turn([source, source], "What?", options, None)], options)
    whole = builder.build([user_turn([source, source], "What?")], options)
    assert resized.prompt.ids == whole.prompt.ids
    for (small, grid), (large, expected) in zip(resized.images, whole.images, strict=True):
        assert isinstance(small, Image)
        assert isinstance(large, Image)
        assert (grid, small.sha256, small.size, small.to_original) == (
            expected,
            large.sha256,
            large.size,
            large.to_original,
        )
        assert small.rgb.size < large.rgb.size
        limits, vision = PUBLISHED.preprocessing, PUBLISHED.vision
        np.testing.assert_array_equal(cut(small, grid, limits, vision).pixels, cut(large, grid, limits, vision).pixels)


def test_images_are_numbered_unless_the_first_turn_has_only_one() -> None:
    """Numbers continue in later turns."""
    square = image(32, 32)
    first, second = number_images([Turn("user", (square, "a")), Turn("user", (square, square, "b"))], QWEN3_VL)
    assert first.parts == (ImagePlaceholder(), "a")
    assert second.parts == ("Picture 2: ", ImagePlaceholder(), "Picture 3: ", ImagePlaceholder(), "b")
    (both,) = number_images([Turn("user", (square, square, "a"))], QWEN3_VL)
    assert both.parts == ("Picture 1: ", ImagePlaceholder(), "Picture 2: ", ImagePlaceholder(), "a")


@pytest.mark.parametrize("ids", [(10**9,), (-1,), (5, TINY.text.vocab_size)])
def test_tokens_beyond_the_vocabulary_are_refused(ids: tuple[int, ...]) -> None:
    """Guards the decoder, which would read foreign memory for ids of a damaged conversation or tokenizer."""
    turns = [Turn("user", ("Hi",)), Turn("assistant", (GeneratedText(ids, "Hello"),)), Turn("user", ("Again",))]
    with pytest.raises(DamagedModel, match="the model has only 1024"):
        PromptBuilder(TINY, TEMPLATE).build(turns, Options())
