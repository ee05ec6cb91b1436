"""Video files: only the frames asked for, upright, and each problem in one sentence."""

from __future__ import annotations

import io
import math
import random
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from vlrun.errors import DamagedMedia, MediaError, MediaNotFound, MediaTooLarge, MissingExtra, UnsupportedMedia
from vlrun.media.video_file import DEFAULT_VIDEO_LIMITS, VideoFile, VideoLimits

pytest.importorskip("av", reason="the extra video is not installed")
import av

from tests.video_clips import HEIGHT, WIDTH, number_of, sound_only, video

FORMS = [
    ("mp4", "libx264"), ("mov", "mpeg4"), ("matroska", "libx264"), ("webm", "libvpx"), ("avi", "mpeg4"),
    ("mpegts", "mpeg2video"), ("flv", "libx264"),
]  # fmt: skip


def numbers(file: VideoFile, indices: list[int]) -> list[int]:
    return [number_of(rgb) for _, rgb in file.frames(indices)]


@pytest.mark.parametrize(("form", "codec"), FORMS)
def test_each_frame_is_the_one_asked_for(form: str, codec: str) -> None:
    """With B-frames, and keyframes before, between and after the frames that are wanted."""
    file = VideoFile(video(61, 25 if codec == "mpeg2video" else 10, form=form, codec=codec), "it")
    assert file.info.frames == 61
    assert (file.info.width, file.info.height) == (WIDTH, HEIGHT)
    for wanted in ([0, 30, 60], [7], list(range(61)), [11, 12, 13, 48, 59], [60], [5, 5, 5]):
        assert numbers(file, wanted) == wanted
    assert [round(seconds * file.info.fps) for seconds, _ in file.frames([0, 25, 60])] == [0, 25, 60]


def test_frames_between_those_asked_for_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten frames of 600 decode no more than the groups of pictures that they are in."""
    from vlrun.media import video_file

    decoded = 0
    original = video_file._decoded

    def counting(stream: object, packet: object) -> list[object]:
        nonlocal decoded
        frames = original(stream, packet)  # type: ignore[arg-type]
        decoded += len(frames)
        return list(frames)

    file = VideoFile(video(600, 30, gop=10), "it")
    monkeypatch.setattr(video_file, "_decoded", counting)
    assert numbers(file, list(range(5, 600, 60))) == list(range(5, 600, 60))
    assert decoded < 10 * 16


def test_a_variable_frame_rate() -> None:
    """Times are counted as transformers does: the number of a frame divided by the mean rate."""
    rng = random.Random(1)
    times, now = [], 0
    for _ in range(50):
        times.append(now)
        now += rng.choice([20, 33, 200, 500])
    for form in ("mp4", "matroska"):
        encoded = video(50, form=form, times=times)
        file = VideoFile(encoded, "it")
        assert numbers(file, list(range(50))) == list(range(50))
        with av.open(io.BytesIO(encoded)) as container:
            rate = float(container.streams.video[0].average_rate or 0)
        assert [seconds for seconds, _ in file.frames([3, 40])] == [3 / rate, 40 / rate]


TURNS = {"clockwise": (0, 1, -1, 0), "around": (-1, 0, 0, -1), "counterclockwise": (0, -1, 1, 0)}
"""The matrices that phones write, as ISO/IEC 14496-12 has them: a, b, c, d."""


@pytest.mark.parametrize(("turn", "quarters"), [("clockwise", -1), ("around", 2), ("counterclockwise", 1)])
def test_a_clip_of_a_phone_is_upright(turn: str, quarters: int) -> None:
    """A phone stores the picture of its sensor, and how to turn it."""
    encoded = video(3)
    a, b, c, d = (value << 16 for value in TURNS[turn])
    place = encoded.index(b"tkhd") + 44
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    plain, turned = VideoFile(encoded, "it"), VideoFile(encoded[:place] + matrix + encoded[place + 36 :], "it")
    size = (plain.info.width, plain.info.height)
    assert (turned.info.width, turned.info.height) == (size if turn == "around" else size[::-1])
    ((_, straight),) = plain.frames([1])
    ((_, rgb),) = turned.frames([1])
    np.testing.assert_array_equal(rgb, np.rot90(straight, quarters))
    assert rgb.flags.c_contiguous


def test_a_file_that_tells_no_frame_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """24, as in transformers."""
    from vlrun.media import video_file

    monkeypatch.setattr(video_file, "_rate", lambda stream: None)
    assert VideoFile(video(10, 5), "it").info.fps == 24


def test_paths_bytes_and_sound(tmp_path: Path) -> None:
    path = tmp_path / "ein Film: 100 %.mp4"
    path.write_bytes(video(9, sound=True))
    assert numbers(VideoFile(path, "it"), [2, 8]) == [2, 8]
    assert numbers(VideoFile(path.read_bytes(), "it"), [2, 8]) == [2, 8]


PROBLEMS = [
    (b"", DamagedMedia, "it is empty"),
    (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", DamagedMedia, "it is damaged or cut short"),
    (b"\0\0\0\x14ftypisom\0\0\2\0isom\0\0\0\x08moov", UnsupportedMedia, "it has no video$"),
    (b"\x1aE\xdf\xa3" + b"\0" * 2000, DamagedMedia, "it is damaged or cut short"),
    (b"no video at all" * 100, DamagedMedia, "it is damaged or cut short"),
    (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", DamagedMedia, "it is damaged or cut short"),
    (b"ffconcat version 1.0\nfile /etc/passwd\n", DamagedMedia, "it is damaged or cut short"),
]


@pytest.mark.parametrize(("content", "kind", "message"), PROBLEMS)
def test_a_file_that_is_no_video(content: bytes, kind: type[MediaError], message: str, tmp_path: Path) -> None:
    """Playlists could name other files."""
    path = tmp_path / "it.mp4"
    path.write_bytes(content)
    for data in (content, path):
        with pytest.raises(kind, match=message) as raised:
            VideoFile(data, "it")
        assert "\n" not in str(raised.value)


def test_sound_is_no_video() -> None:
    with pytest.raises(UnsupportedMedia, match="it has no video, only sound"):
        VideoFile(sound_only(), "it")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MediaNotFound, match="cannot open it: No such file or directory"):
        VideoFile(tmp_path / "none.mp4", "it")


LIMITS = [
    (VideoLimits(max_memory_bytes=1000), "it has more than 1,000 bytes, the limit"),
    (VideoLimits(max_seconds=2.9), "it is longer than 2.9 s, the limit"),
    (VideoLimits(max_frames=29), "it has more than 29 frames, the limit"),
    (VideoLimits(max_pixels=WIDTH * HEIGHT - 1), f"it has frames of {WIDTH} x {HEIGHT}; the limit is 6,143 pixels"),
]


@pytest.mark.parametrize(("limits", "message"), LIMITS)
def test_each_limit_is_told(limits: VideoLimits, message: str) -> None:
    with pytest.raises(MediaTooLarge, match=message):
        VideoFile(video(30), "it", limits)


def test_the_limits_of_files_and_of_time(tmp_path: Path) -> None:
    path = tmp_path / "it.mp4"
    path.write_bytes(video(30))
    with pytest.raises(MediaTooLarge, match="it has more than 1,000 bytes"):
        VideoFile(path, "it", VideoLimits(max_bytes=1000))
    with pytest.raises(MediaTooLarge, match="it takes too long to decode"):
        list(VideoFile(path, "it", VideoLimits(decode_seconds=0)).frames([29]))
    assert DEFAULT_VIDEO_LIMITS.max_bytes == 8 * 2**30
    assert math.isinf(DEFAULT_VIDEO_LIMITS.decode_seconds)


def test_damaged_files_end_in_frames_or_one_sentence() -> None:
    """Cut off anywhere, and with random bytes in them."""
    rng = random.Random(5)
    for form, codec in (("mp4", "libx264"), ("matroska", "libx264"), ("avi", "mpeg4"), ("mpegts", "mpeg2video")):
        whole = video(30, 25, form=form, codec=codec)
        for case in range(24):
            if case % 2:
                damaged = bytearray(whole)
                for _ in range(1 + case):
                    damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            else:
                damaged = bytearray(whole[: rng.randrange(len(whole))])
            assert outcome(bytes(damaged)) in (3, "it")


def outcome(encoded: bytes) -> int | str:
    """Return the number of frames that were read, or the beginning of the sentence that says why there is none."""
    try:
        file = VideoFile(encoded, "it")
        return len(list(file.frames([0, file.info.frames // 2, file.info.frames - 1])))
    except MediaError as error:
        return str(error).split()[0]


def test_a_file_that_is_cut_short_is_used_and_says_so() -> None:
    for form, codec in (("matroska", "libx264"), ("avi", "mpeg4")):
        whole = video(200, form=form, codec=codec, gop=5)
        file = VideoFile(whole[: len(whole) // 2], "it")
        assert 10 < file.info.frames < 190
        assert numbers(file, [file.info.frames - 2]) == [file.info.frames - 2]
    (note,) = file.notes  # AVI tells how many there should be
    assert note == f"it is cut short or damaged: {file.info.frames} of its 200 frames are there"


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = video(3)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"it is a video, which .*: run pip install 'vlrun\[video\]'"):
        VideoFile(encoded, "it")
