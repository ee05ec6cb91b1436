"""The page at ``/`` says where things are, to browsers and to everything else."""

from __future__ import annotations

import re

import vlrun
from vlrun.server.api.start_page import PLACES, page

BASE = "http://127.0.0.1:8321"


def test_other_clients_get_text() -> None:
    body, headers = page("m<1>", BASE, as_html=False)
    assert headers[b"content-type"].startswith(b"text/plain")
    assert "the model m<1>." in body.decode()
    assert all(f"{BASE}{path} " in body.decode() for path in PLACES)
    assert body.decode().endswith("Ollama is running")  # clients of Ollama's API look for it


def test_a_model_is_named_only_to_those_who_may_know() -> None:
    text = page(None, BASE, as_html=False)[0].decode()
    assert "It needs an API key." in text
    assert vlrun.__version__ not in text


def test_browsers_get_links_and_nothing_of_a_name_is_markup() -> None:
    body, headers = page("m<1>", BASE, as_html=True)
    text = body.decode()
    assert headers[b"content-type"] == b"text/html; charset=utf-8"
    assert b"default-src 'none'" in headers[b"content-security-policy"]
    assert "the model m&lt;1&gt;." in text
    assert set(re.findall(r'href="(/[^"]*)"', text)) == set(PLACES) - {"/v1", ""}
    assert f"<code>{BASE}/v1</code>" in text
    assert "<script" not in text
