"""Static files: only those of the folder, gzipped for those who can read it, and once for each version of vlrun."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from pathlib import Path

import pytest
from starlette.types import Message

from vlrun.server.static_files import TYPES, StaticFile, accepts_gzip, read_files

TEXT = b"export const answer = 42;\n" * 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app" / "deep").mkdir(parents=True)
    (tmp_path / "app" / "deep" / "main.js").write_bytes(TEXT)
    (tmp_path / "app" / "README.md").write_bytes(TEXT)
    (tmp_path / "style.css.gz").write_bytes(gzip.compress(TEXT))
    (tmp_path / "photo.png").write_bytes(bytes(range(256)))
    (tmp_path / "tiny.json").write_bytes(b"{}")
    (tmp_path / "LICENSE").write_bytes(TEXT)
    return tmp_path


def ask(file: StaticFile, headers: Mapping[str, str]) -> tuple[int, dict[bytes, bytes], bytes]:
    """Send the file for a request."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(file.send({"type": "http", "headers": raw}, send))
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"]


def test_files_of_known_types_are_found_in_all_subfolders(folder: Path) -> None:
    assert set(read_files(folder, {})) == {"app/deep/main.js", "style.css", "photo.png", "tiny.json"}
    assert set(read_files(folder, {}, ("style.css",))) == {"style.css"}


@pytest.mark.parametrize("suffix", sorted(TYPES))
def test_each_type_is_what_browsers_demand(folder: Path, suffix: str) -> None:
    """With ``nosniff``, browsers run no script and use no style of another type."""
    (folder / f"x{suffix}").write_bytes(TEXT)
    status, headers, body = ask(read_files(folder, {b"x-own": b"1"})[f"x{suffix}"], {})
    assert (status, headers[b"content-type"], headers[b"x-own"], body) == (200, TYPES[suffix], b"1", TEXT)
    assert int(headers[b"content-length"]) == len(TEXT)


@pytest.mark.parametrize("name", ["app/deep/main.js", "style.css"])
def test_a_file_is_gzipped_only_for_clients_that_accept_it(folder: Path, name: str) -> None:
    file = read_files(folder, {})[name]
    _, plain, content = ask(file, {})
    _, packed, zipped = ask(file, {"accept-encoding": "br, gzip"})
    assert content == gzip.decompress(zipped) == TEXT
    assert len(zipped) == int(packed[b"content-length"]) < len(TEXT)
    assert (plain.get(b"content-encoding"), packed[b"content-encoding"]) == (None, b"gzip")
    assert plain[b"vary"] == packed[b"vary"] == b"Accept-Encoding"
    assert plain[b"etag"] != packed[b"etag"]


@pytest.mark.parametrize("name", ["photo.png", "tiny.json"])
def test_what_gzip_does_not_shorten_is_sent_as_it_is(folder: Path, name: str) -> None:
    _, headers, body = ask(read_files(folder, {})[name], {"accept-encoding": "gzip"})
    assert b"content-encoding" not in headers
    assert body == (folder / name).read_bytes()


@pytest.mark.parametrize("accepted", ["", "gzip"])
def test_an_unchanged_file_is_not_sent_again(folder: Path, accepted: str) -> None:
    asked = {"accept-encoding": accepted}
    file = read_files(folder, {b"x-own": b"1"})["app/deep/main.js"]
    etag = ask(file, asked)[1][b"etag"].decode()
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        status, headers, body = ask(file, {**asked, "if-none-match": known})
        assert (status, body, headers[b"etag"], headers[b"x-own"]) == (304, b"", etag.encode(), b"1")
        assert b"content-length" not in headers
    for unknown in ("", '"other"', etag.strip('"'), etag[:-2]):
        assert ask(file, {**asked, "if-none-match": unknown})[0] == 200
    (folder / "app" / "deep" / "main.js").write_bytes(TEXT + b"\n")
    assert ask(read_files(folder, {})["app/deep/main.js"], {**asked, "if-none-match": etag})[0] == 200


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        *[(header, True) for header in ("gzip", "GZIP", "deflate, gzip;q=1.0, *;q=0.5", "br;q=1, gzip;q=0.1", "*")],
        *[(header, False) for header in ("", "identity", "gzip;q=0", "gzip; q=0.0, *", "br", "xgzip", "gzip;q=x")],
    ],
)
def test_accept_encoding_is_read_as_rfc_9110_says(header: str, accepted: bool) -> None:
    """`curl http://127.0.0.1:8321/docs` printed binary data."""
    assert accepts_gzip(header) == accepted
