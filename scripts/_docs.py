"""Update the command output and tables shown in README.md and docs/; with ``--check``, fail if a page is outdated.

They stand between two marks, and the first one names the command or the request::

    <!-- output of: vlrun ask --help -->
    <!-- end of output -->
    <!-- fields of: chat completions -->
    <!-- end of fields -->
"""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image

from vlrun.server.api.anthropic.schemas import MessagesRequest
from vlrun.server.api.chat_schemas import ChatRequest
from vlrun.server.api.completions import CompletionRequest
from vlrun.server.api.ollama.schemas import OllamaChatRequest, OllamaGenerateRequest
from vlrun.server.api.responses_schemas import ResponsesRequest
from vlrun.server.api.schemas import RequestStruct
from vlrun.server.api.tokenize import TokenizeRequest
from vlrun.server.api.validation import places_of_structs

CAMERA = "http://192.168.1.21:8080"
"""In commands: a camera of the local network, for which a server on this machine stands."""
CAMERA_TIME = datetime(2026, 11, 28, 9, 30)
ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
SHOWN = re.compile(r"<!-- output of: (?P<command>.+?) -->\n.*?<!-- end of output -->", re.DOTALL)
REQUESTS: dict[str, type[RequestStruct]] = {
    "chat completions": ChatRequest,
    "completions": CompletionRequest,
    "responses": ResponsesRequest,
    "tokenize": TokenizeRequest,
    "messages": MessagesRequest,
    "Ollama's chat": OllamaChatRequest,
    "Ollama's generate": OllamaGenerateRequest,
}
TABLES = re.compile(r"<!-- fields of: (?P<name>.+?) -->\n.*?<!-- end of fields -->", re.DOTALL)


def main() -> int:
    """Update or check the pages; return 1 if a check finds an outdated one."""
    outdated = [page for page in PAGES if not _update(page, check="--check" in sys.argv[1:])]
    for page in outdated:
        print(f"{page.relative_to(ROOT)} shows outdated output; run scripts/docs", file=sys.stderr)
    return 1 if outdated else 0


def _update(page: Path, check: bool) -> bool:
    """Update a page unless ``check``; return whether it is up to date."""
    old = page.read_text(encoding="utf-8")
    new = with_tables(SHOWN.sub(_show, old))
    if new != old and not check:
        page.write_text(new, encoding="utf-8")
    return new == old or not check


def _show(match: re.Match[str]) -> str:
    command = match["command"]
    return f"<!-- output of: {command} -->\n```text\n$ {command}\n{_output(command)}\n```\n<!-- end of output -->"


def _output(command: str) -> str:
    if CAMERA not in command:
        return _run(command)
    with _camera() as url:
        return _with_shown_times(_run(command.replace(CAMERA, url)))


def _run(command: str) -> str:
    programs = Path(sys.executable).parent
    settings = os.environ | {"COLUMNS": "100", "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    settings |= {"VLRUN_MODEL": "", "XDG_CONFIG_HOME": os.devnull}  # the pages show the embedded model
    return subprocess.run(
        shlex.split(command), cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.rstrip()


def _with_shown_times(output: str) -> str:
    """Replace the times of the lines, which differ in each run, by those of ``CAMERA_TIME`` and the seconds after."""
    times = itertools.count(0)
    return re.sub(
        r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", lambda _: str(CAMERA_TIME + timedelta(seconds=next(times))), output
    )


@contextmanager
def _camera() -> Iterator[str]:
    """Serve a still as the motion JPEG of a network camera for a block, and yield its URL."""
    file, stopped = io.BytesIO(), threading.Event()
    Image.open(ROOT / "examples" / "shelf.png").convert("RGB").save(file, "JPEG", quality=95)
    frame = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
    frame %= len(file.getvalue()), file.getvalue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=frame")
            self.end_headers()
            with suppress(OSError):
                while not stopped.wait(0.1):
                    self.wfile.write(frame)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        stopped.set()
        server.shutdown()


def with_tables(page: str) -> str:
    """Return a page with its tables up to date."""
    return TABLES.sub(_table, page)


def _table(match: re.Match[str]) -> str:
    rows = ["| object | fields | what happens |", "| --- | --- | --- |", *_rows(REQUESTS[match["name"]])]
    return "\n".join([f"<!-- fields of: {match['name']} -->\n", *rows, "\n<!-- end of fields -->"])


def _rows(request: type[RequestStruct]) -> Iterator[str]:
    """The rows of a table. Objects that may be in the same places and have the same unused fields share rows."""
    groups: dict[tuple[object, ...], list[type[RequestStruct]]] = {}
    for struct, places in places_of_structs(request).items():
        if request is not TokenizeRequest or struct is request:  # the others are those of chat completions
            groups.setdefault((*places, id(struct.unused)), []).append(struct)
    for (*where, _), structs in groups.items():
        tags = [f"`{struct.__struct_config__.tag}`" for struct in structs if struct.__struct_config__.tag]
        kinds = f" of type {', '.join(tags)}" if tags else ""
        name = (", ".join(f"`{place}`" for place in where) if where[0] else "the request") + kinds
        for fields, treatment in _fields(structs):
            yield f"| {name} | {', '.join(fields)} | {treatment} |"
            name = ""


def _fields(structs: Sequence[type[RequestStruct]]) -> Iterator[tuple[list[str], str]]:
    unused = structs[0].unused
    only = [f"`{field}: {json.dumps(value)}`" for field, values in sorted(unused.only.items()) for value in values]
    for fields, treatment in (
        (list(dict.fromkeys(f"`{field}`" for struct in structs for field in struct.__struct_fields__)), "used"),
        ([f"`{field}`" for field in sorted(unused.ignored)], "ignored"),
        (only, "ignored with this value, refused with others"),
        ([f"`{field}`" for field in sorted(unused.refused - {*unused.only})], "refused"),
    ):
        if fields:
            yield fields, treatment


if __name__ == "__main__":
    sys.exit(main())
