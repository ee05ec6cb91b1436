"""Where things are: the text at ``/``, and the page there of a service without the web page."""

from __future__ import annotations

import html
from collections.abc import Mapping

import vlrun

PLACES: Mapping[str, str] = {
    "/v1": "base URL for clients of the OpenAI API",
    "": "base URL for clients of the Ollama and Anthropic APIs",
    "/docs": "all paths and fields, with examples to try",
    "/openapi.json": "the same as an OpenAPI document",
    "/v1/models": "the model and its context",
    "/health/ready": "state of the model",
    "/metrics": "metrics for Prometheus",
}
BASES = frozenset({"", "/v1"})
PROBED = "For clients that look for this sentence: Ollama is running"
"""Some clients of Ollama's API use a service only if they find the words here."""
POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
body {{ margin: 3rem auto; max-width: 44rem; padding: 0 1rem; font: 1rem/1.6 system-ui, sans-serif }}
td {{ padding: .2rem 2rem .2rem 0; vertical-align: top }}
</style>
<h1>{title}</h1>
<p>{model}
<table>
{rows}
</table>
</html>
"""


def page(model: str | None, base: str, as_html: bool) -> tuple[bytes, Mapping[bytes, bytes]]:
    """The page and its headers. ``model``: None for those who may not know; ``base``: the URL that was asked for."""
    title, served = f"vlrun {vlrun.__version__}", f"This service answers questions about images with the model {model}."
    if model is None:
        title, served = "vlrun", "This service answers questions about images. It needs an API key."
    if not as_html:
        lines = [f"{base + path:36} {meaning}" for path, meaning in PLACES.items()]
        text, kind = "\n".join((f"{title}: {served}", "", *lines, "", PROBED)), b"text/plain; charset=utf-8"
    else:
        rows = "\n".join(f"<tr><td>{_link(base, path)}<td>{meaning}" for path, meaning in PLACES.items())
        text, kind = PAGE.format(title=title, model=html.escape(served), rows=rows), b"text/html; charset=utf-8"
    return text.encode(), {b"content-type": kind, b"content-security-policy": POLICY, b"vary": b"Accept"}


def _link(base: str, path: str) -> str:
    url = html.escape(base + path)
    return f"<code>{url}</code>" if path in BASES else f'<a href="{path}">{url}</a>'
