"""Fetching images from https URLs: a TLS server on loopback, for which names and addresses are made up."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vlrun.cli.image_url import Address, Fetcher, is_public
from vlrun.errors import MediaNotFound, MediaTooLarge

LOOPBACK = ipaddress.ip_address("127.0.0.1")
LIMIT = 100_000
IMAGE = os.urandom(50_000)


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        whole: dict[str, tuple[int, bytes, dict[str, str]]] = {
            "/image": (200, IMAGE, {}),
            "/large": (200, bytes(LIMIT + 1), {}),
            "/short": (200, IMAGE[:100], {"Content-Length": "200"}),
            "/compressed": (200, IMAGE, {"Content-Encoding": "gzip"}),
            "/redirect": (302, b"", {"Location": query}),
        }
        parts = {"/endless": bytes(10_000), "/slow": b"x", "/slow_header": b"H"}
        if path == "/nonsense":
            self.wfile.write(b"220 ftp ready\r\n\r\n")
        elif path in parts:
            self._send_forever(path, parts[path])
        else:
            self._send(*whole.get(path, (404, b"", {})))

    def _send_forever(self, path: str, part: bytes) -> None:
        if path != "/slow_header":
            self.send_response(200)
            self.end_headers()
        while not self.server.stopped.wait(0.0 if path == "/endless" else 0.05):  # type: ignore[attr-defined]
            self.wfile.write(part)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for images.test, with its key in the same file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=images.test -addext subjectAltName=DNS:images.test"
    )
    subprocess.run(
        [*command.split(), "-keyout", path, "-out", path.with_suffix(".crt")], check=True, capture_output=True
    )
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


class Quiet(ThreadingHTTPServer):
    """A server whose clients may go away."""

    def handle_error(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def port(certificate: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = Quiet(("127.0.0.1", 0), Handler)
    server.stopped = threading.Event()  # type: ignore[attr-defined]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.stopped.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "getproxies", dict)


@pytest.fixture
def fetcher(certificate: Path, port: int) -> Callable[..., Fetcher]:
    """Make a fetcher for which all names are the test server's, whose address is public."""

    def make(
        seconds: float = 30.0,
        allowed: Callable[[Address], bool] = lambda address: address == LOOPBACK,
        resolve: Callable[..., list[Any]] | None = None,
    ) -> Fetcher:
        def to_server(_host: str, _port: int, **_: object) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        context = ssl.create_default_context(cafile=str(certificate))
        return Fetcher(LIMIT, seconds, allowed, resolve or to_server, context)

    return make


def test_an_image_is_fetched_also_through_redirects(fetcher: Callable[..., Fetcher]) -> None:
    assert fetcher().fetch("https://images.test/image?size=1") == IMAGE
    assert fetcher().fetch("https://images.test/redirect?/image") == IMAGE
    assert fetcher().fetch("HTTPS://images.test:443/redirect?https://images.test/image") == IMAGE


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("missing", MediaNotFound, "the server answers 404 Not Found"),
        ("large", MediaTooLarge, "has more than 100,000 bytes, the limit"),
        ("endless", MediaTooLarge, "has more than 100,000 bytes, the limit"),
        ("short", MediaNotFound, "was cut short"),
        ("compressed", MediaNotFound, "is sent compressed"),
        ("nonsense", MediaNotFound, "cannot fetch"),
        ("redirect?/redirect?/redirect?/redirect?/redirect?/redirect?/image", MediaNotFound, "more than 5 times"),
        ("redirect?http://images.test/image", MediaNotFound, "is not an https URL"),
        ("redirect?file:///etc/passwd", MediaNotFound, "is not an https URL"),
    ],
)
def test_what_is_no_image_within_limits_is_one_sentence(
    fetcher: Callable[..., Fetcher], path: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        fetcher().fetch(f"https://images.test/{path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["slow", "slow_header"])
def test_a_server_that_sends_byte_by_byte_is_left_in_time(fetcher: Callable[..., Fetcher], path: str) -> None:
    with pytest.raises(MediaNotFound, match=r"takes more than 0\.3 s to fetch"):
        fetcher(seconds=0.3).fetch(f"https://images.test/{path}")


def test_the_certificate_must_be_that_of_the_host(fetcher: Callable[..., Fetcher]) -> None:
    with pytest.raises(MediaNotFound, match=r"the certificate of 'https://other\.test/image' is not valid"):
        fetcher().fetch("https://other.test/image")
    with pytest.raises(MediaNotFound, match="is not valid"):
        fetcher().fetch("https://images.test/redirect?https://other.test/image")


@pytest.mark.parametrize(
    "address",
    "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 255.255.255.255 ::1 ::"
    " fe80::1 fc00::1 ff02::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: 2001:0:1:2:3:4:5:6"
    " 192.0.2.1 2001:db8::1".split(),
)
def test_addresses_that_are_not_public(address: str, fetcher: Callable[..., Fetcher]) -> None:
    """Nothing is connected to, whatever else the name resolves to."""
    assert not is_public(ipaddress.ip_address(address))

    def resolve(_host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in ("192.0.2.1", address)]

    allowed: Callable[[Address], bool] = lambda one: str(one) == "192.0.2.1" != address or is_public(one)  # noqa: E731
    with pytest.raises(MediaNotFound, match=f"leads to {address}, which is no public address"):
        fetcher(allowed=allowed, resolve=resolve).fetch("https://images.test/image")


@pytest.mark.parametrize("address", "8.8.8.8 2606:4700::1 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::".split())
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_a_redirect_to_a_private_address_is_not_followed(fetcher: Callable[..., Fetcher], port: int) -> None:
    """Also if the name resolves to another address each time: what was checked is what is connected to."""
    resolved: list[str] = []

    def resolve(host: str, _port: int, **_: object) -> list[Any]:
        resolved.append(host)
        address = "127.0.0.1" if len(resolved) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    with pytest.raises(MediaNotFound, match=r"leads to 127\.0\.0\.2"):
        fetcher(resolve=resolve).fetch("https://images.test/redirect?https://images.test/image")
    assert resolved == ["images.test"] * 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://images.test/image", "is not an https URL: vlrun fetches no others"),
        ("https:///image", "it has no host"),
        ("https://images.test/a b", "characters that must be escaped"),
        ("https://images.test/a\nHost: x", "is not a URL"),
        ("https://me:secret@images.test/image", "has a user name in it"),
        ("https://images.test:99999/", "is not a URL"),
        ("https://[::1/", "is not a URL"),
        (f"https://{'a' * 70}.test/", "cannot fetch"),
    ],
)
def test_other_urls_are_refused(url: str, message: str) -> None:
    with pytest.raises(MediaNotFound, match=message):
        Fetcher(LIMIT).fetch(url)


def test_a_proxy_is_not_used_silently(fetcher: Callable[..., Fetcher], monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind it, nothing could be checked."""
    monkeypatch.setattr(urllib.request, "getproxies", lambda: {"https": "http://proxy.test:3128"})
    with pytest.raises(MediaNotFound, match="would go through a proxy"):
        fetcher().fetch("https://images.test/image")
    monkeypatch.setattr(urllib.request, "proxy_bypass", lambda host: host == "images.test")
    assert fetcher().fetch("https://images.test/image") == IMAGE
