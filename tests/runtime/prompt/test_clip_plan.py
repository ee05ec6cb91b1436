"""What a model sees of a video: within its own rules, its context, and what a CPU affords."""

from __future__ import annotations

import io
from dataclasses import replace

import av
import numpy as np
import pytest

from tests.runtime.prompt.test_builder import PUBLISHED
from tests.video_clips import video
from vlrun.embedded import FOLDER
from vlrun.errors import ContextLengthExceeded, MediaTooLarge, OptionError, UnsupportedMedia
from vlrun.media.clip import Clip
from vlrun.media.video import PendingClip, Video, open_video
from vlrun.prompt.builder import PromptBuilder, user_turn
from vlrun.prompt.chat_template import ChatTemplate
from vlrun.prompt.tokenizer import parse_tokenizer
from vlrun.types.options import Options
from vlrun.types.turn import Turn

TEMPLATE = ChatTemplate(
    (FOLDER / "chat_template.jinja").read_text("utf-8"),
    parse_tokenizer((FOLDER / "tokenizer.json").read_bytes(), "tokenizer.json"),
    PUBLISHED.tokens.image,
    PUBLISHED.tokens.video,
)


def plain_video(seconds: int, size: tuple[int, int]) -> bytes:
    """Return a grey video of one frame a second, which is small however large its frames are."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *size, "yuv420p", 600
        rgb = np.full((size[1], size[0], 3), 128, np.uint8)
        for _ in range(seconds):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture(scope="module")
def long_video() -> bytes:
    """Five minutes at one frame a second."""
    return plain_video(300, (640, 352))


def clip_of(source: bytes | Video, options: Options, affordable: int = 2560, context: int | None = None) -> Clip:
    builder = PromptBuilder(PUBLISHED, TEMPLATE, affordable)
    (clip, _) = builder.question_turn(source, "What?", options, context).parts
    assert isinstance(clip, Clip)
    assert clip.fixed
    (*grids,) = {grid for _, grid in builder.build([Turn("user", (clip,))], options).images}
    assert [(grid.width * 16, grid.height * 16) for grid in grids] == [clip.shown]
    return clip


def tokens(clip: Clip) -> int:
    return len(clip.pairs) * clip.shown[0] * clip.shown[1] // 1024


def test_detail_decides_how_much_is_shown(long_video: bytes) -> None:
    """Of "high" it is what transformers shows: 300 frames within 25,165,824 pixels."""
    low, auto, high = (clip_of(long_video, Options(detail=detail)) for detail in ("low", "auto", "high"))
    assert (low.frames, auto.frames, high.frames) == (32, 128, 300)
    assert 0.6 * 1024 <= tokens(low) <= 1024
    assert 0.6 * 4096 <= tokens(auto) <= 4096
    assert high.shown == (384, 192)
    assert not high.notes
    (note,) = auto.notes
    shown = "128 frames of 320 x 160 (3,200 visual tokens) instead of 300 frames of 384 x 192"
    assert note.startswith(f"the video: {shown}")
    assert "--detail high" in note


def test_a_short_video_is_shown_as_it_is() -> None:
    clip = clip_of(video(20, size=(96, 64)), Options())
    assert (clip.frames, clip.shown, clip.notes) == (4, (96, 64), ())


def test_a_slow_machine_and_a_small_context_reduce_it(long_video: bytes) -> None:
    assert tokens(clip_of(long_video, Options(), affordable=640)) <= 2048
    assert clip_of(long_video, Options(), affordable=640).frames == 64
    small = clip_of(long_video, Options(), context=2000)
    assert (small.frames, tokens(small) <= 1000) == (31, True)


def test_the_users_choice_replaces_the_budget(long_video: bytes) -> None:
    options = Options()
    assert clip_of(Video(long_video, fps=0.5), options).frames == 150
    chosen = clip_of(Video(long_video, max_frames=8, max_pixels=100_000), options)
    assert (chosen.frames, chosen.shown, chosen.notes) == (8, (416, 224), ())
    assert clip_of(Video(long_video, max_frames=8), Options(max_image_tokens=40)).shown == (256, 128)
    with pytest.raises(ContextLengthExceeded, match="send fewer images"):
        clip_of(Video(long_video, fps=1), Options(detail="high"), context=4096)


def test_several_videos_share_the_budget(long_video: bytes) -> None:
    """Two of them did not fit into a small context."""
    builder = PromptBuilder(PUBLISHED, TEMPLATE)
    for count, context in ((2, None), (3, 2000)):
        turn = builder.question_turn([long_video] * count, "What?", Options(), context)
        built = builder.build([turn], Options())
        builder.check_context(built, context)
        assert sum(grid.tokens for _, grid in built.images) <= min(4096, (context or 10**6) // 2)
        unfitted = builder.build([user_turn([open_video(long_video)] * count, "What?")], Options())
        assert sum(grid.tokens for _, grid in unfitted.images) <= 4096


def test_nothing_is_decoded_that_does_not_fit(long_video: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PendingClip, "open", None)
    with pytest.raises(ContextLengthExceeded, match="images have"):
        clip_of(Video(long_video, fps=1), Options(detail="high"), context=4096)


def test_a_clip_for_no_model_is_fitted_by_the_prompt(long_video: bytes) -> None:
    clip = open_video(long_video, max_frames=60)
    builder = PromptBuilder(PUBLISHED, TEMPLATE)
    assert clip.shown == (640, 352)
    budgets = {Options(detail="low"): 1024, Options(): 4096, Options(max_image_tokens=50): 1500}
    for options, budget in budgets.items():
        built = builder.build([user_turn(clip, "What?")], options)
        assert 0.7 * budget <= sum(grid.tokens for _, grid in built.images) <= budget
    (grid, *_) = {grid for _, grid in builder.build([user_turn(clip, "What?")], Options(detail="high")).images}
    assert (grid.width * 16, grid.height * 16) == clip.shown


def test_videos_and_images_are_numbered() -> None:
    builder = PromptBuilder(PUBLISHED, TEMPLATE)
    clip = open_video(video(4))
    image = np.zeros((64, 96, 3), np.uint8)

    def shown(*sources: object) -> str:
        from vlrun.models.qwen3_vl.family import QWEN3_VL
        from vlrun.prompt.builder import number_images

        return TEMPLATE.render(number_images([user_turn(list(sources), "What?")], QWEN3_VL))  # type: ignore[arg-type]

    assert "Video" not in shown(clip)
    assert shown(clip, image).index("Video 1: ") < shown(clip, image).index("Picture 1: ")
    assert "Video 2: " in shown(clip, clip)
    assert "Window 3: <|vision_start|><|video_pad|>" in shown(replace(clip, label="Window 3"))
    built = builder.build([user_turn([clip, image], "What?")], Options())
    assert len(built.images) == 3
    assert built.subject is None
    assert built.clip is clip


def test_a_video_that_the_model_cannot_see() -> None:
    builder = PromptBuilder(replace(PUBLISHED, vision=replace(PUBLISHED.vision, temporal_patch=1)), TEMPLATE)
    with pytest.raises(OptionError, match="this model takes no videos"):
        builder.question_turn(video(4), "What?", Options(), None)
    with pytest.raises(UnsupportedMedia, match="too small"):
        clip_of(video(4, size=(48, 30)), Options())
    with pytest.raises(MediaTooLarge, match="too narrow"):
        clip_of(plain_video(2, (32 * 202, 32)), Options())
