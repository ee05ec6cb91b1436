"""Cameras and streams that PyAV reads: servers on loopback, errors in one sentence, and no growing delay."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vlrun.errors import MediaError, MediaNotFound, MediaTooLarge, MissingExtra, UnsupportedMedia
from vlrun.media import camera_stream
from vlrun.media.camera_source import parse_camera
from vlrun.media.camera_stream import MAX_DELAY_SECONDS, PATIENCE_SECONDS, DelayGuard, check_installed, opened_camera

av = pytest.importorskip("av", reason="the extra video is not installed")

from tests.streams import USER, RtspServer, StreamServer, clip, number_of, sound  # noqa: E402 - needs PyAV

DAY = 86_400.0


@pytest.fixture(scope="module")
def server() -> Iterator[StreamServer]:
    serving = StreamServer()
    yield serving
    serving.close()


@pytest.fixture(scope="module")
def rtsp() -> Iterator[RtspServer]:
    serving = RtspServer(12)
    yield serving
    serving.close()


def read(url: str) -> list[int]:
    """Return which frames a stream has."""
    with opened_camera(parse_camera(url)) as frames:
        return [number_of(frame.to_ndarray(format="rgb24")) for frame in frames]


@pytest.mark.parametrize(("form", "codec"), [("mpegts", "mpeg2video"), ("mpegts", "libx264"), ("matroska", "libx264")])
def test_streams_over_http(server: StreamServer, form: str, codec: str) -> None:
    url = server.add(f"/{form}/{codec}", clip(12, form, codec))
    assert read(url)[-1] == 1
    assert len(read(url)) >= 10


def test_motion_jpeg(server: StreamServer) -> None:
    url = server.add("/mpjpeg", clip(12, "mpjpeg", "mjpeg"))
    with opened_camera(parse_camera(url)) as frames:
        assert number_of(next(frames).to_ndarray(format="rgb24")) == 0
    with pytest.raises(MediaNotFound, match=f"the stream of '{url}' was interrupted"):  # nothing tells its end
        read(url)


def test_a_stream_with_a_password(server: StreamServer) -> None:
    server.add("/private", clip(12))
    assert read(f"http://{USER}@127.0.0.1:{server.port}/private")[-1] == 1


def test_rtsp(rtsp: RtspServer) -> None:
    rtsp.methods.clear()
    assert read(f"rtsp://{USER}@{rtsp.address}/live")[-1] == 1
    assert [method for method in rtsp.methods if method in ("SETUP", "PLAY")] == ["SETUP", "PLAY"]


def test_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV's generator of test pictures stands for the camera that this machine lacks."""
    opened, real = [], av.open

    def fake(url: str, **given: Any) -> Any:
        opened.append((url, given["format"], given["timeout"]))
        return real("testsrc=size=320x240:rate=25:duration=1", format="lavfi")

    monkeypatch.setattr(av, "open", fake)
    with opened_camera(parse_camera("/dev/null")) as frames:
        assert next(frames).to_ndarray(format="rgb24").shape == (240, 320, 3)
    assert opened == [("/dev/null", "v4l2", (10.0, 10.0))]


def test_a_device_that_is_no_camera() -> None:
    with pytest.raises(MediaNotFound, match="cannot open the camera '/dev/null': "):
        read("/dev/null")


@pytest.mark.parametrize(
    ("path", "content", "kind", "message"),
    [
        ("/page", b"<html>hello</html>" * 100, UnsupportedMedia, "sends no video that vlrun can read"),
        ("/empty", b"", MediaError, "'http://127.0.0.1:"),
        ("/noise", bytes(range(256)) * 400, UnsupportedMedia, "sends no video that vlrun can read"),
        ("/sound", None, UnsupportedMedia, "sends only sound"),
    ],
)
def test_what_is_no_video(
    server: StreamServer, path: str, content: bytes | None, kind: type[MediaError], message: str
) -> None:
    url = server.add(path, [sound(2) if content is None else content])
    with pytest.raises(kind, match=message):
        read(url.replace("//", "//admin:s3cret@"))


@pytest.mark.parametrize("name", ["x.m3u8", "x.mpd", "x.txt", "x.sdp"])
def test_a_playlist_is_not_followed(server: StreamServer, tmp_path: Path, name: str) -> None:
    """It could open other addresses of the network, and files."""
    secret = tmp_path / "secret.ts"
    secret.write_bytes(b"".join(clip(12)))
    inner = server.add("/inner.ts", clip(12))
    playlists = {
        "x.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{inner}\n#EXTINF:10,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "x.mpd": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{inner}</BaseURL></MPD>',
        "x.txt": f"ffconcat version 1.0\nfile {inner}\nfile {secret}\n",
        "x.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 4000 RTP/AVP 33\n",
    }
    server.requested.clear()
    with pytest.raises(UnsupportedMedia, match="or a playlist"):
        read(server.add(f"/{name}", [playlists[name].encode()]))
    assert set(server.requested) == {f"/{name}"}


def test_errors_of_the_connection_have_no_password(server: StreamServer, rtsp: RtspServer) -> None:
    server.add("/private", clip(2))
    place = f"admin:wrong@127.0.0.1:{server.port}"
    for url, message in (
        (f"http://{place}/none", r"'http://127.0.0.1:\d+/none' does not exist"),
        (f"http://{place}/private", "refuses the user name or password"),
        (f"rtsp://admin:wrong@{rtsp.address}/live", "refuses the user name or password"),
        (f"rtsp://{USER}@{rtsp.address}/other", r"'rtsp://127.0.0.1:\d+/other' does not exist"),
        ("rtsp://admin:wrong@127.0.0.1:1/live", "cannot open the camera 'rtsp://127.0.0.1:1/live': Connection refused"),
        ("http://admin:wrong@no.such.invalid/", "cannot open 'http://no.such.invalid/': there is no host of this name"),
    ):
        with pytest.raises(MediaError, match=message) as caught:
            read(url)
        assert "wrong" not in str(caught.value)
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=camera -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with contextlib.closing(StreamServer(context)) as server:
        url = server.add("/tls", clip(40)).replace("http:", "https:")
        with pytest.raises(MediaNotFound, match="its certificate is not valid, or it does not speak TLS"):
            read(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert len(read(url)) == 40


def test_a_server_that_does_not_answer(server: StreamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_stream, "NETWORK_SECONDS", 0.3)
    with pytest.raises(MediaNotFound, match=r"does not answer, for 0\.3 s"):
        read(server.add("/silent", [], silent=True))


def test_a_stream_that_stalls(server: StreamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_stream, "NETWORK_SECONDS", 1.0)
    seen = []
    with (
        pytest.raises(MediaNotFound, match="sends nothing any more, for 1 s"),
        opened_camera(parse_camera(server.add("/stalls", clip(60), silent=True))) as frames,
    ):
        seen += list(frames)
    assert seen == []  # the list was not complete
    with opened_camera(parse_camera(server.add("/stalls", clip(60), silent=True))) as frames:
        assert number_of(next(frames).to_ndarray(format="rgb24")) == 0


def test_sound_without_pictures_is_an_error(monkeypatch: pytest.MonkeyPatch, server: StreamServer) -> None:
    monkeypatch.setattr(camera_stream, "PICTURE_SECONDS", -1.0)
    with pytest.raises(MediaNotFound, match="sends no picture for -1 s"):
        read(server.add("/late", clip(12)))


def test_frames_that_are_too_large(server: StreamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_stream, "MAX_FRAME_PIXELS", 1000)
    with pytest.raises(MediaTooLarge, match="sends frames of 64 x 48; the limit is 1,000 pixels"):
        read(server.add("/large", clip(20)))


def test_damaged_packets_are_left_out(server: StreamServer) -> None:
    parts = clip(40)
    damaged = [part if number % 7 else part[:200] + bytes(len(part) - 200) for number, part in enumerate(parts, 1)]
    assert len(read(server.add("/damaged", damaged))) >= 10


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"needs another package: run pip install 'vlrun\[video\]'"):
        check_installed(parse_camera("rtsp://cam/live"))


class Simulation:
    """A stream whose packets wait in a buffer until they are read, and the time that each takes to be decoded."""

    def __init__(self, fps: float = 25.0, gop: int = 25, drift: float = 0.0) -> None:
        self.fps, self.gop, self.drift = fps, gop, drift
        self.guard = DelayGuard()
        self.now = 0.0

    def run(self, seconds: float, decode: float, pause: tuple[float, float] = (0.0, 0.0)) -> list[float]:
        """Return the delay of each frame that is decoded; the network pauses from ``pause[0]`` to ``pause[1]``."""
        delays = []
        start = int(self.now * self.fps) + 1
        for number in range(start, start + int(seconds * self.fps)):
            sent = number / self.fps
            available = pause[1] if pause[0] <= sent < pause[1] else sent
            waited = max(available - self.now, 0.0)
            self.now += waited
            if not self.guard.drops(sent * (1 + self.drift), self.now, waited, number % self.gop == 0):
                self.now += decode
                delays.append(self.now - sent)
        return delays


def test_frames_that_are_decoded_in_time_are_all_kept() -> None:
    assert len(Simulation().run(60, decode=0.01)) == 60 * 25
    assert len(Simulation().run(60, decode=0.01, pause=(20, 25))) == 60 * 25


@pytest.mark.parametrize("drift", [1e-4, -1e-4])
def test_clocks_that_differ_drop_nothing(drift: float) -> None:
    assert len(Simulation(fps=0.1, drift=drift).run(7 * DAY, decode=0.01)) == int(7 * DAY * 0.1)


@pytest.mark.parametrize("decode", [0.05, 0.2, 1.0])
def test_a_decoder_that_is_too_slow_has_no_growing_delay(decode: float) -> None:
    delays = Simulation().run(600, decode)
    assert delays
    assert max(delays[-100:]) < MAX_DELAY_SECONDS + PATIENCE_SECONDS + 2 * decode
    assert max(delays) < MAX_DELAY_SECONDS + PATIENCE_SECONDS + 2 * decode


def test_times_that_jump_interrupt_the_stream_only_for_a_while() -> None:
    guard = DelayGuard()
    clock = itertools.count()
    for jump in (0.0, -1000.0, 5000.0, -3.0):
        dropped = [guard.drops(jump + now / 25, now / 25, 0.02, now % 25 == 0) for now in itertools.islice(clock, 500)]
        assert sum(dropped) <= (PATIENCE_SECONDS + 1) * 25
        assert not any(dropped[-100:])


def test_packets_without_a_time_are_kept() -> None:
    guard = DelayGuard()
    assert not any(guard.drops(None, now, 0.0, False) for now in range(100))
