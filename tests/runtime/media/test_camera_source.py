"""What is taken for a camera, and that passwords never appear."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlrun.errors import MediaNotFound, OptionError, VlrunError
from vlrun.media.camera_source import CameraSource, parse_camera

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("rtsp://10.0.0.7/live", "rtsp://10.0.0.7/live"),
        ("RTSP://Cam.local:8554/live", "rtsp://cam.local:8554/live"),
        (f"rtsp://admin:{SECRET}@cam/live?channel=1", "rtsp://cam/live"),
        (f"rtsp://admin:{SECRET}%2F%40@[fe80::1]:554/live", "rtsp://[fe80::1]:554/live"),
        (f"rtsp://cam/user=admin_password={SECRET}_channel=1.sdp", "rtsp://cam"),
        (f"http://cam:81/video.cgi?usr=admin&pwd={SECRET}", "http://cam:81/video.cgi"),
        (f"https://u:{SECRET}@cam/stream#x", "https://cam/stream"),
        (f"rtsps://u:a@{SECRET}@cam/live", "rtsps://cam/live"),
    ],
)
def test_the_name_of_a_stream_has_no_password(url: str, name: str) -> None:
    source = parse_camera(url)
    assert (source.name, source.url) == (name, url)
    assert SECRET not in repr(source)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "concat:a|b",
        "data:video/mp4;base64,AAAA",
        "rtmp://u:s3cr3t@cam/live",
        "udp://239.0.0.1:1234",
        "lavfi:testsrc",
        "pipe:0",
        "subfile,,start,0,end,0,,:/etc/passwd",
        "http:cam/live",
        "rtsp:/u:s3cr3t@cam/live",
        "rtsp://",
        "rtsp://:s3cr3t@/live",
        "rtsp://cam:port/live",
        "rtsp://cam:99999/live",
        "rtsp://u:s3cr3t/x@cam/live",
        "rtsp://u:s3cr3t?x@cam/live",
        "rtsp://u:s3cr3t#x@cam/live",
        "rtsp://u:s3cr3t@cam/li ve",
        "rtsp://u:s3cr3t@cam/li\nve",
        "rtsp://[s3cr3t@cam/live",
        "u:s3cr3t@cam/live",
        "u@cam/s3cr3t",
        "/dev/x@s3cr3t",
        "",
        "camera",
        "0",
        "\0",
        "x" * 5000,
    ],
)
def test_all_else_is_refused_without_a_password(url: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_camera(url)
    assert SECRET not in str(caught.value)
    assert str(caught.value).startswith(("a camera is a device", "the URL of the camera"))
    assert len(str(caught.value)) < 300


@given(st.text(max_size=20), st.text(max_size=30), st.sampled_from(["rtsp", "http", "rtsps", "https", "ftp", ""]))
@settings(max_examples=100, deadline=None)
def test_a_password_never_appears(user: str, rest: str, scheme: str) -> None:
    url = f"{scheme}://{user}:{SECRET}@{rest}"
    try:
        source = parse_camera(url)
        shown = f"{source.name} {source!r}"
    except VlrunError as error:
        shown = str(error)
    assert SECRET not in shown


def test_ffmpeg_may_open_nothing_but_the_stream() -> None:
    rtsp, secure, http, https = (parse_camera(f"{kind}://cam/x").options for kind in ("rtsp", "rtsps", "http", "https"))
    assert (rtsp["rtsp_transport"], rtsp["protocol_whitelist"]) == ("tcp", "tcp")
    assert set(secure["protocol_whitelist"].split(",")) == {"tcp", "tls"}
    assert "http" not in https["protocol_whitelist"].split(",")  # no redirect to an open connection
    for options in (http, https):
        assert not {"file", "data", "concat", "crypto", "pipe"} & set(options["protocol_whitelist"].split(","))
        assert not {"hls", "dash", "concat", "sdp", "lavfi"} & set(options["format_whitelist"].split(","))
    assert secure["tls_verify"] == https["tls_verify"] == "1"


def test_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MediaNotFound, match="there is no camera '/dev/video99': "):
        parse_camera("/dev/video99")
    file = tmp_path / "clip.mp4"
    file.touch()
    with pytest.raises(OptionError, match=r"clip.mp4' is a file, not a camera"):
        parse_camera(str(file))
    with pytest.raises(OptionError, match="a camera is a device"):
        parse_camera(str(tmp_path))
    assert parse_camera("/dev/null") == CameraSource("/dev/null", "/dev/null", "v4l2", {})
    assert parse_camera("/dev/null").host is None
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(MediaNotFound, match="no permission to open '/dev/null': add your user to the group 'video'"):
        parse_camera("/dev/null")


@pytest.mark.parametrize("value", [None, 0, b"/dev/video0", Path("/dev/video0")])
def test_a_source_is_a_text(value: object) -> None:
    with pytest.raises(OptionError, match="source must be a text"):
        parse_camera(value)
