"""The paths of the web page and of ``/docs``. Their files need no network and load nothing from other addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from vlrun.server.api_errors import ApiError
from vlrun.server.kiosk_config import Kiosk
from vlrun.server.static_files import StaticFile, read_files, static_file

WEB = Path(__file__).parent / "web"
DOCS = Path(__file__).parent / "api" / "assets"
DOCS_FILES = ("index.html", "init.js", "swagger-ui-bundle.js", "swagger-ui.css")
ALL_PATHS = "/docs lists all paths"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {}"
)
"""Of the web page: no script, style or handler in its HTML, and no request to another origin."""
DOCS_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI writes inline styles and draws icons from data URLs; scripts come from files only."""
PERMISSIONS = b"camera=(self), microphone=(), geolocation=()"
LOGO_POLICY = b"default-src 'none'; frame-ancestors 'none'; sandbox"
"""An SVG file that is opened by itself is a page."""
PUBLIC_PATHS = ("/", "/kiosk")
WORKER = "kiosk/worker.js"
"""The service worker of the kiosk, whose page is not below the worker's path."""
PUBLIC_FOLDERS = ("/web/", "/kiosk/")


@dataclass(frozen=True)
class WebPage:
    """What the operator has chosen for the web page.

    Attributes:
        kiosk: The configuration of the kiosk page.
        frame_ancestors: Origins whose pages may show it in a frame.
    """

    kiosk: Kiosk
    frame_ancestors: tuple[str, ...] = ()

    def routes(self, text: ASGIApp) -> dict[str, Mapping[str, ASGIApp]]:
        """The paths of the web page. ``text``: answers those at ``/`` that want no HTML."""
        policy = POLICY.format(" ".join(self.frame_ancestors) or "'none'")
        headers: Mapping[bytes, bytes] = {
            b"content-security-policy": policy.encode(),
            b"permissions-policy": PERMISSIONS,
            b"cache-control": b"no-cache",
        }
        files = read_files(WEB, headers)
        index = _with_header(files["index.html"], b"vary", b"Accept")
        files[WORKER] = _with_header(files[WORKER], b"service-worker-allowed", b"/kiosk")

        async def start(scope: Scope, receive: Receive, send: Send) -> None:
            await (index.send(scope, send) if wants_html(scope) else text(scope, receive, send))

        return {
            "/": {"GET": start},
            "/kiosk": {"GET": _sending({"": files["kiosk.html"]})},
            "/kiosk/{name}": {"GET": _sending(self._kiosk_files(headers))},
            "/web/{name:path}": {"GET": _sending(files)},
        }

    def _kiosk_files(self, headers: Mapping[bytes, bytes]) -> dict[str, StaticFile]:
        kiosk = self.kiosk
        files = {"config.json": static_file(kiosk.config, {**headers, b"content-type": b"application/json"})}
        if kiosk.logo:
            own = {b"content-type": kiosk.logo_type, b"content-security-policy": LOGO_POLICY}
            files["logo"] = static_file(kiosk.logo, {**headers, **own})
        return files


def is_public(path: str) -> bool:
    """Whether the web page is at this path: it can be read without an API key, which it asks for."""
    return path in PUBLIC_PATHS or path.startswith(PUBLIC_FOLDERS)


def docs_routes() -> dict[str, Mapping[str, ASGIApp]]:
    """The paths of the page that describes the API."""
    files = read_files(DOCS, {b"content-security-policy": DOCS_POLICY, b"cache-control": b"no-cache"}, DOCS_FILES)
    return {"/docs": {"GET": _sending({"": files["index.html"]})}, "/docs/{name}": {"GET": _sending(files)}}


def wants_html(scope: Scope) -> bool:
    """Whether a browser asks for a page."""
    return any(name == b"accept" and b"text/html" in value.lower() for name, value in scope["headers"])


def _with_header(file: StaticFile, name: bytes, value: bytes) -> StaticFile:
    return replace(file, headers={**file.headers, name: value})


def _sending(files: Mapping[str, StaticFile]) -> ASGIApp:
    """An endpoint that sends the file of the path's ``name``, which is looked up as it is."""

    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        file = files.get(scope["path_params"].get("name", ""))
        if file is None:
            raise ApiError(404, f"there is nothing at this path: {ALL_PATHS}", "not_found")
        await file.send(scope, send)

    return answer
