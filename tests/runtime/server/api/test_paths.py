"""Requests for unknown paths are told which one was probably meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlrun.server.api.paths import hint

KNOWN = (
    *(
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/tokenize",
        "/v1/models",
        "/v1/models/{name:path}",
    ),
    *("/api/v1/chat", "/api/v1/analyze", "/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"),
    *("/", "/docs", "/docs/{name}"),
)
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
NEAR = {
    CHAT: """/chat/completions /v1/chat/completion /v1/v1/chat/completions /api/chat/completions /v1/chat /chat
        /api/v1/chat/completions /v1/chat/completions/ //v1/chat/completions /V1/Chat/Completions
        /openai/v1/chat/completions /openai/deployments/qwen/chat/completions /v2/chat/completions
        /v1/chat/completions/chat/completions /v1/chat/completions/v1/chat/completions /v1/chats/completions
        /v1/chatcompletions""".split(),
    TEXT: "/completions /completion /v1/v1/completions /v1/completion /v1/engines/davinci/completions".split(),
    "/v1/models": "/models /v1/v1/models /api/models /v1/models/ /v1/model /openai/models".split(),
    "/v1/responses": "/responses /v1/response /api/v1/responses /v1/responses/responses".split(),
    "/v1/tokenize": "/tokenize /v1/tokenise /tokenizer".split(),
    "/api/v1/analyze": "/analyze /v1/analyze /api/v1/analyse".split(),
    "/health": "/healthz /v1/health /api/health".split(),
    "/health/ready": "/ready /readyz /healthz/ready".split(),
    "/health/live": "/live /health/alive".split(),
    "/metrics": "/v1/metrics /metric /metrics/".split(),
    "/docs": "/v1/docs /doc /docs/".split(),
    "/openapi.json": "/v1/openapi.json /openapi /openapi.yaml".split(),
}
FAR = "/ /v1 /api /nowhere /favicon.ico /robots.txt /v1/embeddings /wp-login.php /v1/audio/speech /x /a/b/c/d/e".split()


@pytest.mark.parametrize(("meant", "path"), [(meant, path) for meant, paths in NEAR.items() for path in paths])
def test_a_near_miss_names_the_right_path(meant: str, path: str) -> None:
    assert hint(path, KNOWN).startswith(f"did you mean {meant}")


@pytest.mark.parametrize("path", FAR)
def test_other_paths_get_no_wrong_hint(path: str) -> None:
    assert hint(path, KNOWN) == ""


def test_a_wrong_base_url_is_named() -> None:
    """Most of these requests come from clients, whose users have given the base URL and never see the path."""
    assert hint("/chat/completions", KNOWN) == "did you mean /v1/chat/completions, with a base URL that ends in /v1?"
    assert hint("/metric", KNOWN) == "did you mean /metrics?"


@given(st.text(max_size=200) | st.text(st.sampled_from("/v1apichtcompletions{}"), max_size=5000))
def test_a_hint_never_repeats_the_request(path: str) -> None:
    found = hint(f"/{path}", KNOWN)
    assert found == "" or any(found.startswith(f"did you mean {known}") for known in KNOWN if "{" not in known)
