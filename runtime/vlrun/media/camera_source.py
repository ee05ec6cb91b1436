"""Checks what a user names as a camera. User names, passwords and queries never appear in its name or in messages."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from vlrun.errors import MediaNotFound, OptionError
from vlrun.types.arguments import text

KINDS = "a device such as /dev/video0, or an rtsp, rtsps, http or https URL"
NETWORK_SECONDS = 10.0
"""Without an answer a camera is not there, and a stream that sends nothing is broken."""
DEVICE_FORMAT = "v4l2"
STREAM_FORMATS = "flv,h264,hevc,matroska,mjpeg,mov,mpegts,mpjpeg"
"""FFmpeg's formats over HTTP. Playlists (HLS, DASH, concat) are not among them: they would open other addresses."""
_ESCAPES = "write / ? # @ in a password as %2F %3F %23 %40"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_DEVICES = Path("/dev")


@dataclass(frozen=True)
class CameraSource:
    """A camera that was not opened yet.

    Attributes:
        url: What FFmpeg opens, with user name and password.
        name: What messages and files call it, without them.
        format: FFmpeg's format; None to find out.
        options: FFmpeg's options.
    """

    url: str = field(repr=False)
    name: str
    format: str | None
    options: Mapping[str, str]

    @property
    def host(self) -> str | None:
        """The host of a URL; None for a device."""
        return None if self.format == DEVICE_FORMAT else urlsplit(self.url).hostname


def parse_camera(source: object) -> CameraSource:
    """Return the camera of a device's path or a URL.

    Raises:
        OptionError: It is neither, or a URL of another kind.
        MediaNotFound: There is no such device, or it may not be opened.
    """
    given = text("source", source)
    if _URL.match(given):
        return _stream(given)
    return _device(given)


def _stream(url: str) -> CameraSource:
    scheme = url.partition(":")[0].lower()
    if scheme not in ("rtsp", "rtsps", "http", "https"):
        raise OptionError(f"a camera is {KINDS}, not of the kind '{scheme[:20]}'")
    parts = _split(url, scheme)
    port = f":{parts.port}" if parts.port else ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    path = "" if "=" in parts.path else parts.path  # some cameras have the password there
    name = f"{scheme}://{host}{port}{path}"
    if scheme.startswith("rtsp"):  # over TCP: nobody else can send pictures to a UDP port, and none is lost
        options = {"rtsp_transport": "tcp", "protocol_whitelist": "tcp,tls" if scheme == "rtsps" else "tcp"}
        return CameraSource(url, name, "rtsp", options | _certificates(scheme))
    protocols = "https,tls,tcp" if scheme == "https" else "http,https,tls,tcp"
    options = {"protocol_whitelist": protocols, "format_whitelist": STREAM_FORMATS, "user_agent": "vlrun"}
    return CameraSource(url, name, None, options | _certificates("https"))


def _split(url: str, scheme: str) -> SplitResult:
    """Return the parts of a URL. Raises OptionError, without the URL: it may have a password."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or not url.isprintable() or " " in url or not url[len(scheme) :].startswith("://"):
        raise OptionError(f"the URL of the camera is not like {scheme}://HOST/PATH: {_ESCAPES}")
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise OptionError(f"the URL of the camera has an @ behind its host: {_ESCAPES}")
    return parts


def _certificates(scheme: str) -> dict[str, str]:
    """Return the options that check certificates, with those of ``SSL_CERT_FILE``, as Python does."""
    if not scheme.endswith("s"):
        return {}
    file = ssl.get_default_verify_paths().cafile
    return {"tls_verify": "1", **({"ca_file": file} if file else {})}


def _device(given: str) -> CameraSource:
    path = Path(given)
    try:
        if path.is_char_device():
            if not os.access(path, os.R_OK | os.W_OK):
                raise MediaNotFound(f"no permission to open '{given}': add your user to the group 'video'")
            return CameraSource(given, given, DEVICE_FORMAT, {})
        if path.is_file():
            raise OptionError(f"'{given}' is a file, not a camera: leave out the option for the camera")
    except (OSError, ValueError):  # too long for a path, or with a NUL
        pass
    if _DEVICES in path.parents and "@" not in given:
        present = ", ".join(sorted(map(str, _DEVICES.glob("video*"))))
        raise MediaNotFound(
            f"there is no camera '{given[:80]}': {f'there is {present}' if present else 'no camera is connected'}"
        )
    raise OptionError(f"a camera is {KINDS}")
