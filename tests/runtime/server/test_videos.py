"""Videos over real sockets: as parts of chat completions, sent once, and refused beyond the limits."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import pytest

pytest.importorskip("av", reason="the extra video is not installed")

from tests.paths import EXAMPLES
from tests.runtime.server.error_checks import assert_error, memory_growth_below, still_answers
from tests.runtime.server.http_client import (
    QUESTION,
    chat_request,
    data_url,
    events,
    get,
    image,
    is_idle,
    post,
    send_request,
    wait_until,
)
from tests.runtime.server.running_server import Server, serving
from tests.runtime.server.test_image_endpoints import form, upload
from tests.video_clips import sound_only, video

pytestmark = pytest.mark.slow

CLIP = video(20, fps=10)
"""Two seconds."""
URL = "messages[0].content[0].video_url.url"


def video_url(content: bytes, kind: str = "video/mp4") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def video_part(content: bytes | str, **more: Any) -> dict[str, Any]:
    url = content if isinstance(content, str) else video_url(content)
    return {"type": "video_url", "video_url": {"url": url, **more}}


def count(server: Server, *parts: str | dict[str, Any]) -> int:
    reply = post(server, {"messages": chat_request(*parts)["messages"]}, "/v1/tokenize")
    assert reply.status == 200, reply.body
    return int(reply.json["image_tokens"])


FORMS: dict[str, dict[str, Any]] = {
    "vLLM": video_part(CLIP),
    "vLLM, short": {"type": "video_url", "video_url": video_url(CLIP)},
    "Qwen": {"type": "video", "video": video_url(CLIP)},
    "another type": video_part(video_url(CLIP, "application/octet-stream")),
    "as an image": {"type": "image_url", "image_url": {"url": video_url(CLIP)}},
}


def test_a_video_is_a_part_of_a_message(server: Server) -> None:
    vllm, *others = FORMS.values()
    reply = post(server, chat_request(vllm, "What happens?", max_tokens=4))
    assert reply.status == 200, reply.body
    tokens = reply.json["usage"]["prompt_tokens_details"]["image_tokens"]
    assert tokens > 0
    assert [count(server, part) for part in others] == [tokens] * len(others)


def test_the_options_choose_the_frames(server: Server) -> None:
    size = {"max_pixels": 96 * 64}  # 6 visual tokens; the embedded model takes 12 frames at most
    assert count(server, video_part(CLIP, fps=10, **size)) == 6 * 6
    assert count(server, video_part(CLIP, fps=5, **size)) == 5 * 6
    assert count(server, video_part(CLIP, fps=10, start=1, end=1.75, keyframes=True, **size)) <= 4 * 6
    assert count(server, {**FORMS["Qwen"], "fps": 10, "max_frames": 4, **size}) == 2 * 6
    small = count(server, video_part(video(4, fps=10, size=(320, 320)), fps=10, max_pixels=64 * 64))
    assert small == 2 * 2 * 2


def test_a_video_beside_an_image_and_in_a_stream(server: Server) -> None:
    request = chat_request(image(), video_part(CLIP, max_frames=4), QUESTION, max_tokens=8, stream=True)
    lines = list(events(send_request(server, request).getresponse()))
    assert lines[-1] == "[DONE]"
    assert not any("error" in json.loads(line) for line in lines if line.startswith("{"))


def test_several_videos_share_the_context() -> None:
    """Each took half of it. Those of earlier messages keep what they had, so that their prefix stays in the cache."""
    long = chat_request(video_part(video(130, fps=2, size=(320, 240))))["messages"]
    with serving("--context", "320") as server:
        alone = count(server, *long[0]["content"])
        assert 0.8 * alone < count(server, *2 * long[0]["content"]) <= alone
        reply = post(server, {"messages": 2 * long}, "/v1/tokenize").json
    assert reply["image_tokens"] > 1.3 * alone
    assert reply["remaining"] > 0


def test_a_video_is_sent_once_and_named(server: Server) -> None:
    sent = upload(server, CLIP).json
    assert (sent["width"], sent["height"]) == (96, 64)
    assert sent["video"] == {"seconds": 2.0, "fps": 10.0, "frames": 20}
    assert get(server, f"/v1/images/{sent['id']}").json["video"] == sent["video"]
    for part in (video_part(sent["url"], max_frames=4), {"type": "image_url", "image_url": {"url": sent["url"]}}):
        assert post(server, chat_request(part, QUESTION, max_tokens=4)).status == 200
    assert_error(get(server, f"/v1/images/{sent['id']}/preview"), 400, "unsupported_image", "image")


def test_times_in_the_answer_are_seconds(server: Server) -> None:
    """The grammar makes the embedded model write them."""
    moments = {"start": {"const": 0.5}, "end": {"const": 1.5}}
    schema = {"type": "object", "properties": moments, "required": ["start", "end"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "times", "schema": schema}}
    reply = post(server, chat_request(video_part(CLIP), "When?", response_format=wanted))
    assert reply.status == 200, reply.body
    assert reply.json["choices"][0]["vlrun"]["times"] == [{"start": 0.5, "end": 1.5}]


def test_a_heat_map_of_a_video_is_answered_or_refused(server: Server) -> None:
    reply = post(server, chat_request(video_part(CLIP, max_frames=4), QUESTION, vlrun={"heatmap": True}, max_tokens=4))
    assert reply.status in (200, 400), reply.body


def test_a_form_takes_a_video(server: Server) -> None:
    body, headers = form(CLIP)
    assert post(server, body, "/api/v1/chat", headers).status == 200


def cut(content: bytes) -> bytes:
    return content[: len(content) // 3]


SHELF = (EXAMPLES / "shelf.png").read_bytes()
REFUSED: dict[str, tuple[dict[str, Any], str, str | None, str]] = {
    "no video": (video_part(SHELF), "unsupported_video", URL, "is not a video"),
    "empty": (video_part("data:video/mp4;base64,"), "invalid_image", URL, "is empty"),
    "sound": (video_part(sound_only()), "unsupported_image", URL, "has no video, only sound"),
    "cut short": (video_part(cut(CLIP)), "invalid_image", URL, "damaged or cut short"),
    "nothing inside": (video_part(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(500)), "invalid_image", URL, "damaged"),
    "noise": (video_part(b"\x1aE\xdf\xa3" + os.urandom(4000)), "invalid_image", URL, "damaged"),
    "a URL": (video_part("https://example.org/a.mp4"), "url_not_allowed", URL, "fetches no URLs"),
    "a path": (video_part("file:///etc/passwd"), "url_not_allowed", URL, "fetches no URLs"),
    "too small": (video_part(video(4, size=(16, 16))), "unsupported_image", URL, "too small"),
    "after its end": (video_part(CLIP, start=60), "invalid_image", URL, "ends after 2.0 s"),
    "end before start": (video_part(CLIP, start=1, end=0.5), "invalid_value", f"{URL[:-4]}.end", "after start"),
    "a list of frames": (
        {"type": "video", "video": [data_url(SHELF)]},
        "invalid_type",
        "messages[0].content[0].video",
        "must be a string",
    ),
    "too many frames": (
        video_part(CLIP, max_frames=10_000),
        "invalid_value",
        f"{URL[:-4]}.max_frames",
        "at most 768",
    ),
    "a region": (
        {"type": "image_url", "image_url": {"url": video_url(CLIP), "region": "0,0,10,10"}},
        "invalid_value",
        "messages[0].content[0].image_url.url",
        "for images",
    ),
}


def test_a_video_that_cannot_be_used_is_refused_in_one_sentence(server: Server) -> None:
    with still_answers(server):
        for name, (part, code, param, words) in REFUSED.items():
            message = assert_error(post(server, chat_request(part, QUESTION)), 400, code, param)
            assert words in message, name


def test_a_video_beyond_the_limits_is_refused(server: Server) -> None:
    """Of eleven minutes, and of frames in 8K, both in a few kilobytes."""
    long = video(660, fps=1)
    message = assert_error(post(server, chat_request(video_part(long))), 400, "invalid_image", URL)
    assert "600 s, the limit" in message
    with memory_growth_below(server, 50):
        large = video(1, size=(7680, 4320))
        message = assert_error(post(server, chat_request(video_part(large))), 400, "invalid_image", URL)
    assert "the limit is 9,437,184 pixels" in message


PLAYLISTS = {
    "HLS": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
}


def test_a_playlist_opens_nothing(server: Server) -> None:
    for content in PLAYLISTS.values():
        assert_error(post(server, chat_request(video_part(content))), 400, "unsupported_video", URL)


def test_a_client_that_leaves_ends_the_decoding(server: Server) -> None:
    connection = send_request(server, chat_request(video_part(video(300, fps=30, size=(640, 480)), fps=30), QUESTION))
    connection.disconnect()
    wait_until(lambda: is_idle(server), 30)
