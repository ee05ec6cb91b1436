"""Videos that users give: options, recognition, and clips made of them."""

from __future__ import annotations

import io
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vlrun.errors import MediaError, MediaNotFound, MediaTooLarge, OptionError, UnsupportedMedia
from vlrun.media.clip import Clip
from vlrun.media.image import Image, open_image
from vlrun.media.pending_image import open_images, read_headers
from vlrun.media.resizing import resize_rgb
from vlrun.media.video import AUTO_FRAMES, PendingClip, Video, open_video, opens_as_video
from vlrun.media.video_file import VideoFile, VideoLimits
from vlrun.types.video_rules import PUBLISHED_RULES

pytest.importorskip("av", reason="the extra video is not installed")
from tests.video_clips import HEIGHT, WIDTH, number_of, picture, video


def shown_numbers(clip: Clip) -> list[int]:
    return [number_of(frame) for pair in clip.pairs for frame in pair.frames]


def test_a_video_becomes_a_clip() -> None:
    """Two frames a second of four seconds."""
    clip = open_video(video(41))
    assert clip.seconds == pytest.approx((0.3, 1.4, 2.6, 3.7))
    assert shown_numbers(clip) == [0, 6, 11, 17, 23, 29, 34, 40]
    assert (clip.size, clip.shown, clip.frames, clip.fixed) == ((WIDTH, HEIGHT), (WIDTH, HEIGHT), 8, False)


def test_the_options_choose_frames_and_sizes() -> None:
    encoded = video(100)
    assert open_video(encoded, fps=1).frames == 10
    assert open_video(encoded, max_frames=5).frames == 5
    assert open_video(encoded, fps=10, max_frames=7).frames == 7
    assert open_video(encoded, max_frames=1).frames == 1
    part = open_video(encoded, start=3, end=5, fps=5)
    assert shown_numbers(part) == [30, 32, 34, 37, 39, 41, 43, 46, 48, 50]
    assert part.seconds[0] == pytest.approx(3.1)
    assert open_video(encoded, max_pixels=1024).shown == (32, 32)
    assert open_video(Video(encoded, max_frames=3)).frames == 3
    with pytest.raises(OptionError, match="has its own options"):
        open_video(Video(encoded), fps=1)


def test_a_long_video_has_no_more_frames_than_a_cpu_affords() -> None:
    encoded = video(200, 1, size=(48, 32))
    assert open_video(encoded).frames == AUTO_FRAMES
    assert open_video(encoded, fps=2).frames == 200


def test_frames_are_reduced_as_stills_are() -> None:
    encoded = video(4, size=(200, 120))
    clip = open_video(encoded)
    ((_, rgb),) = VideoFile(encoded, "it").frames([2])
    assert clip.shown == (192, 128)
    np.testing.assert_array_equal(clip.pairs[1].frames[0], resize_rgb(rgb, 192, 128))


BAD = [
    ({"fps": 0}, "fps must lie above 0"),
    ({"fps": 241}, "at most 240"),
    ({"fps": float("nan")}, "fps must be a number of at least 0"),
    ({"fps": "2"}, "fps must be a number"),
    ({"start": -1}, "start must be a number of at least 0"),
    ({"end": float("inf")}, "end must be a number of at least 0"),
    ({"start": 5, "end": 5}, "5 s is not after 5 s"),
    ({"max_frames": 0}, "between 1 and 768"),
    ({"max_frames": 769}, "between 1 and 768"),
    ({"max_frames": 2.5}, "max_frames must be a whole number"),
    ({"max_pixels": 1023}, "max_pixels must be at least 1024"),
    ({"keyframes": 1}, "keyframes must be true or false"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_options_out_of_their_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Video("a.mp4", **options)  # type: ignore[arg-type]


def test_a_source_that_cannot_be_a_video() -> None:
    with pytest.raises(OptionError, match="source must be a path, bytes or a file, not an image or ndarray"):
        Video(np.zeros((4, 4, 3), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(MediaNotFound, match=r"'none\.mp4'"):
        open_video("none.mp4")
    with pytest.raises(MediaNotFound, match=r"ends after 1\.0 s, before the start at 2 s"):
        open_video(video(10), start=2)


def test_a_part_without_a_frame_is_told(tmp_path: Path) -> None:
    """Guards a silent answer about another moment: the frames of a time-lapse are far apart."""
    path = tmp_path / "yard.mp4"
    path.write_bytes(video(3, times=[0, 40_000, 80_000]))
    clip = open_video(path, start=5, end=6)
    (note,) = clip.notes
    assert note == f"'{path}': no frame lies between 5 and 6 s: the next one is used, at 26.7 s"
    assert not open_video(path, start=5, end=40).notes
    assert not open_video(path, start=5).notes


def test_videos_are_recognized_by_their_content(tmp_path: Path) -> None:
    image = io.BytesIO()
    open_image(np.zeros((40, 40, 3), np.uint8))
    from PIL import Image as PILImage

    PILImage.new("RGB", (40, 40)).save(image, "GIF")
    for form, codec in (("mp4", "libx264"), ("matroska", "libx264"), ("avi", "mpeg4"), ("mpegts", "mpeg2video")):
        encoded = video(6, 25, form=form, codec=codec)
        path = tmp_path / "photo.jpg"
        path.write_bytes(encoded)
        for source in (encoded, bytearray(encoded), path, os.fspath(path), path.as_uri()):
            assert opens_as_video(source)
            (pending,) = read_headers([source])
            assert isinstance(pending, PendingClip)
        with path.open("rb") as file:
            (pending,) = read_headers([file])
        assert isinstance(pending, PendingClip)
        with pytest.raises(UnsupportedMedia, match=r"is a video, not an image; vlrun\.open_video opens it"):
            open_image(encoded)
    for other in (image.getvalue(), b"", b"G" * 10, "none.mp4", "http://x/y.mp4", "a\0b", tmp_path, np.zeros(3)):
        assert not opens_as_video(other)


def test_a_gif_is_a_video_only_if_it_is_asked_for_as_one() -> None:
    from PIL import Image as PILImage

    frames = [PILImage.fromarray(picture(number)) for number in range(5)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
    ((still,), (clip,)) = (open_images([source]) for source in (file.getvalue(), Video(file.getvalue())))
    assert isinstance(still, Image)
    assert isinstance(clip, Clip)
    assert clip.frames == 4
    assert shown_numbers(clip)[0] == 0


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    encoded, pipe = video(9), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(encoded,))
    writer.start()
    (clip,) = open_images([pipe])
    writer.join()
    assert isinstance(clip, Clip)
    assert clip.frames == 4


def test_the_limits_hold_for_clips() -> None:
    with pytest.raises(MediaTooLarge, match="the video has more than 100 bytes"):
        open_video(video(4), limits=VideoLimits(max_memory_bytes=100))
    with pytest.raises(MediaError, match="too small"):
        open_video(video(4, size=(48, 30)))


def test_keyframes_are_those_in_which_something_changed() -> None:
    """A fixed camera that sees nothing new for most of the time."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(100):
            rgb = np.full((96, 128, 3), 90, np.uint8)
            if number >= 50:
                rgb[20:60, 30:70] = (250, 250, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    clip = open_video(file.getvalue(), keyframes=True)
    assert clip.frames == 2
    assert clip.pairs[0].frames[0, 40, 50].tolist() != clip.pairs[0].frames[1, 40, 50].tolist()
    rules = replace(PUBLISHED_RULES, fps=10)
    assert PendingClip(Video(file.getvalue(), fps=10)).changed(rules, 50) == [0, 50]
