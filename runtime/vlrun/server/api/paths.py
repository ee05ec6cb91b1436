"""What a request for an unknown path probably meant: clients are given a wrong base URL, or people mistype."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

PREFIXES = frozenset({"v1", "api", "openai"})
"""Parts of paths that clients leave out, repeat or add."""
ALIASES = {
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "openapi": "/openapi.json",
    "openapi.yaml": "/openapi.json",
    "readyz": "/health/ready",
    "livez": "/health/live",
}
"""By the path without prefixes: paths of other servers, and those that would be several of ours."""
MAX_LENGTH = 64
"""Characters of a path that is compared with similar ones."""
SIMILAR = 0.8
"""Of `difflib.SequenceMatcher.ratio`: one wrong letter in five."""


def hint(path: str, known: Iterable[str]) -> str:
    """The sentence that names the ``known`` path that ``path`` resembles; empty if there is none."""
    if not (name := _name(path)):
        return ""
    names = {_name(each): each for each in reversed(list(known)) if "{" not in each} | ALIASES
    if found := names.get(name):
        base = ", with a base URL that ends in /v1" if found.startswith("/v1/") else ""
        return f"did you mean {found}{base}?"
    similar = difflib.get_close_matches(name, names, 1, SIMILAR) if len(name) <= MAX_LENGTH else []
    ends = [each for each in names if each and (name.endswith(f"/{each}") or each.endswith(f"/{name}"))]
    nearest = next(iter(similar), "") or max(ends, key=len, default="")
    return f"did you mean {names[nearest]}?" if nearest else ""


def _name(path: str) -> str:
    """A path in lower case without prefixes, and once if it is there twice."""
    parts = [part for part in path.lower().split("/") if part and part not in PREFIXES]
    half = len(parts) // 2
    return "/".join(parts[half:] if parts[:half] == parts[half:] else parts)
