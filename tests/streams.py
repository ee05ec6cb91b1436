"""Video streams on loopback: clips that PyAV encodes, an HTTP server, and a small RTSP server.

Frame ``i`` of a clip is a plain grey of ``level(i)``, so a test can tell which one it got.
"""

from __future__ import annotations

import base64
import contextlib
import io
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

WIDTH, HEIGHT, FPS = 64, 48, 10
KEYFRAME_EVERY = 5
USER = "admin:s3cret%40x"
"""User name and password, as in a URL."""
_AUTHORIZATION = f"Basic {base64.b64encode(b'admin:s3cret@x').decode()}"


def level(number: int) -> int:
    """Return the grey of a frame."""
    return 20 + 20 * (number % 10)


def number_of(rgb: np.ndarray) -> int:
    """Return which frame this is, modulo ten."""
    return round((float(rgb.mean()) - 20) / 20) % 10


def frames(count: int) -> Iterator[av.VideoFrame]:
    """Yield the frames of a clip."""
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), level(number), np.uint8), format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        yield frame


def clip(count: int, form: str = "mpegts", codec: str = "mpeg2video") -> list[bytes]:
    """Return a clip as the bytes of each of its frames, in the order in which they are sent."""
    file, parts, end = io.BytesIO(), [], 0
    with av.open(file, "w", format=form, options={"flush_packets": "1"}) as container:
        stream = container.add_stream(codec, rate=FPS)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.gop_size = WIDTH, HEIGHT, KEYFRAME_EVERY
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.max_b_frames = 0
        for frame in [*frames(count), None]:
            for packet in stream.encode(frame):
                container.mux(packet)
                parts.append(file.getvalue()[end:])
                end = len(file.getvalue())
    return [*parts, file.getvalue()[end:]]


def sound(seconds: int) -> bytes:
    """Return a clip without video."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("mp2", rate=44100)
        for start in range(0, 44100 * seconds, 1152):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 1152), np.int16), format="s16", layout="stereo")
            frame.sample_rate, frame.pts = 44100, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


class StreamServer:
    """An HTTP server that sends what it is given for each path, in parts; ``wait`` seconds after each of them.

    Attributes:
        requested: The paths that were asked for.
    """

    def __init__(self) -> None:
        self.requested: list[str] = []
        self.parts: dict[str, Callable[[], Iterator[bytes]]] = {}
        self.stopped = threading.Event()
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.answer(self)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        Handler.protocol_version = "HTTP/1.1"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        """The port."""
        return int(self._server.server_address[1])

    def add(self, path: str, parts: Sequence[bytes], wait: float = 0.0, silent: bool = False) -> str:
        """Send these parts for a path, and then, if ``silent``, nothing more. Returns the URL."""

        def send() -> Iterator[bytes]:
            for part in parts:
                yield part
                if wait and self.stopped.wait(wait):
                    return
            if silent:
                self.stopped.wait()

        self.parts[path] = send
        return f"http://127.0.0.1:{self.port}{path}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        path = request.path.partition("?")[0]
        self.requested.append(path)
        if path.startswith("/private") and request.headers.get("Authorization") != _AUTHORIZATION:
            request.send_response(401)
            request.send_header("WWW-Authenticate", 'Basic realm="camera"')
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if path not in self.parts:
            request.send_error(404)
            return
        request.send_response(200)
        if "mpjpeg" in path:
            request.send_header("Content-Type", "multipart/x-mixed-replace;boundary=ffmpeg")
        request.send_header("Transfer-Encoding", "chunked")
        request.send_header("Connection", "close")
        request.end_headers()
        with contextlib.suppress(OSError):
            for part in filter(None, self.parts[path]()):
                request.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            request.wfile.write(b"0\r\n\r\n")

    def close(self) -> None:
        """Stop the server."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


def _h264(count: int) -> list[list[bytes]]:
    """Return the NAL units of each frame of a clip."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.time_base, context.gop_size = Fraction(1, FPS), KEYFRAME_EVERY
    context.options = {"preset": "ultrafast", "tune": "zerolatency"}
    encoded = [bytes(packet) for frame in [*frames(count), None] for packet in context.encode(frame)]
    return [
        [unit.rstrip(b"\0") for unit in data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]] for data in encoded
    ]


class RtspServer:
    """A camera that speaks RTSP with interleaved RTP, asks for a password, and sends H.264.

    Args:
        count: Frames of the stream; the connection is then closed.
        wait: Seconds between two of them.

    Attributes:
        methods: The requests that were made.
    """

    def __init__(self, count: int, wait: float = 0.0) -> None:
        self.methods: list[str] = []
        self.stopped = threading.Event()
        served, units = self, _h264(count)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    while served.respond(self) != "PLAY":
                        pass
                    served.send(self.connection, units, wait)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def respond(self, handler: socketserver.StreamRequestHandler) -> str:
        """Read a request and respond to it. Returns its method."""
        line = handler.rfile.readline().decode()
        if not line:
            raise ConnectionResetError
        headers = {}
        while header := handler.rfile.readline().strip().decode():
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        method, url, _ = line.split()
        self.methods.append(method)
        status, extra, body = "200 OK", "", ""
        if method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif headers.get("authorization") != _AUTHORIZATION:
            status, extra = "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"\r\n'
        elif not url.endswith(("/live", "/live/", "/track1")):
            status = "404 Not Found"
        elif method == "DESCRIBE":
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
                "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n"
                "a=control:track1\r\n"
            )
            extra = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP":
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        handler.wfile.write(f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\n{extra}\r\n{body}".encode())
        return method if status == "200 OK" else ""

    def send(self, connection: socket.socket, units: Sequence[Sequence[bytes]], wait: float) -> None:
        """Send all frames: each unit in an RTP packet (RFC 6184) in the connection (RFC 2326, 10.12)."""
        sequence = 0
        for number, frame in enumerate(units):
            for place, unit in enumerate(frame, 1):
                kind = 96 | (128 if place == len(frame) else 0)
                header = struct.pack(">BBHII", 128, kind, sequence, number * 90000 // FPS, 1)
                connection.sendall(struct.pack(">cBH", b"$", 0, len(header) + len(unit)) + header + unit)
                sequence += 1
            if wait and self.stopped.wait(wait):
                return

    def close(self) -> None:
        """Stop the server."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
