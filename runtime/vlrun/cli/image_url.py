"""Fetches an image from an https URL that the user has typed, from public addresses only.

A URL may come from a message that the user copied: it must not reach what only this machine or its network can reach,
so the address is checked at the connection itself. A name is resolved once; what was checked is what is connected to.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import SplitResult, urljoin, urlsplit

from vlrun.errors import MediaNotFound, MediaTooLarge
from vlrun.media.sources import MAX_NAME

PREFIX = "https://"
MAX_SECONDS = 60.0
"""From the connection to the last byte, with all redirects."""
MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_READ_BYTES = 2**16

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: Address) -> bool:
    """Return whether an address belongs to the internet: not to this machine, its network, or a special use.

    An IPv6 address that stands for an IPv4 address (mapped, 6to4, NAT64) is public if that one is.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address in ipaddress.IPv6Network("64:ff9b::/96"):
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        embedded = address.ipv4_mapped or address.sixtofour
        if embedded is not None:
            return is_public(embedded)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


@dataclass(frozen=True)
class Fetcher:
    """How images are fetched. The defaults are for the internet; tests use a server of their own.

    Attributes:
        max_bytes: Maximum size of the image.
        seconds: Maximum time for all of it.
        allowed: Whether an address may be connected to.
        resolve: Resolves names, as ``socket.getaddrinfo``.
        context: Checks certificates.
    """

    max_bytes: int
    seconds: float = MAX_SECONDS
    allowed: Callable[[Address], bool] = is_public
    resolve: Callable[..., list[Any]] = socket.getaddrinfo
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def fetch(self, url: str) -> bytes:
        """Return the bytes of an image. Raises MediaNotFound and MediaTooLarge."""
        end = time.monotonic() + self.seconds
        for _ in range(MAX_REDIRECTS + 1):
            target, name = _parse(url), f"'{url[:MAX_NAME]}'"
            with self._errors(name), self._connected(target, name, end) as connection:
                path = f"{target.path or '/'}{f'?{target.query}' if target.query else ''}"
                headers = {"Accept": "image/*,application/pdf", "Accept-Encoding": "identity", "User-Agent": "vlrun"}
                connection.request("GET", path, headers=headers)
                with connection.getresponse() as response:
                    location = response.getheader("Location")
                    if response.status not in _REDIRECTS or location is None:
                        return self._body(response, name)
            url = urljoin(url, location)
        raise MediaNotFound(f"{name} is redirected more than {MAX_REDIRECTS} times")

    @contextlib.contextmanager
    def _connected(self, target: SplitResult, name: str, end: float) -> Iterator[http.client.HTTPConnection]:
        """Connect to a checked address, and close the connection at the end of the block or of the time."""
        host = target.hostname or ""
        connection = http.client.HTTPSConnection(host, target.port, context=self.context)
        connection.sock = self._socket(host, target.port or 443, name, end)
        timer = threading.Timer(max(end - time.monotonic(), 0), _shut_down, [connection.sock])
        timer.daemon = True
        timer.start()
        try:
            yield connection
        except (OSError, http.client.HTTPException):
            if time.monotonic() < end:
                raise
        finally:
            timer.cancel()
            connection.close()
        if time.monotonic() >= end:  # what was received until then may look complete
            raise TimeoutError

    def _socket(self, host: str, port: int, name: str, end: float) -> ssl.SSLSocket:
        """Connect to the first address that answers. None is tried if one of them is not allowed."""
        found = self.resolve(host, port, type=socket.SOCK_STREAM)
        for *_, address in found:
            if not self.allowed(ipaddress.ip_address(address[0].partition("%")[0])):
                raise MediaNotFound(f"{name} leads to {address[0]}, which is no public address: download it first")
        error: OSError = OSError("it has no address")
        for family, kind, protocol, _, address in found:
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(max(end - time.monotonic(), 0.001))
                plain.connect(address)
                return self.context.wrap_socket(plain, server_hostname=host)
            except OSError as failed:
                plain.close()
                error = failed
        raise error

    def _body(self, response: http.client.HTTPResponse, name: str) -> bytes:
        if response.status != http.client.OK:
            raise MediaNotFound(f"{name} cannot be fetched: the server answers {response.status} {response.reason}")
        if response.getheader("Content-Encoding", "identity") != "identity":
            raise MediaNotFound(f"{name} is sent compressed, which vlrun did not ask for: download it first")
        parts, size = [], 0
        while part := response.read(_READ_BYTES):
            parts.append(part)
            size += len(part)
            if size > self.max_bytes:
                raise MediaTooLarge(f"{name} has more than {self.max_bytes:,} bytes, the limit")
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(parts)

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise MediaNotFound(f"{name} takes more than {self.seconds:g} s to fetch, the limit") from None
        except ssl.SSLCertVerificationError as error:
            raise MediaNotFound(f"the certificate of {name} is not valid: {error.verify_message}") from None
        except http.client.IncompleteRead:
            raise MediaNotFound(f"{name} was cut short while it was fetched: try again") from None
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise MediaNotFound(f"cannot fetch {name}: {' '.join(reason.split())}") from None


def _parse(url: str) -> SplitResult:
    """Return the parts of an https URL that goes to a server directly. Raises MediaNotFound."""
    name = f"'{url[:MAX_NAME]}'"
    try:
        target = urlsplit(url)
        host, _ = target.hostname, target.port
    except ValueError as error:
        raise MediaNotFound(f"{name} is not a URL: {error}") from None
    if target.scheme.lower() != "https":
        raise MediaNotFound(f"{name} is not an https URL: vlrun fetches no others")
    if not host or not url.isprintable() or " " in url:
        raise MediaNotFound(f"{name} is not a URL: it has no host, or characters that must be escaped")
    if target.username is not None:
        raise MediaNotFound(f"{name} has a user name in it: download the image first")
    if "https" in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        raise MediaNotFound(
            f"{name} would go through a proxy, where vlrun cannot check its address: download the image first, "
            "or name the host in NO_PROXY"
        )
    return target


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
