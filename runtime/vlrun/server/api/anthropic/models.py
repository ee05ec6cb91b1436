"""``/v1/models`` in Anthropic's format, for clients that send its version header."""

from __future__ import annotations

from collections.abc import Sequence

from vlrun.server.api.answers import Json, rfc3339


def model_list(names: Sequence[str], since: float, context: int | None) -> Json:
    """All names of the model."""
    models = [model_object(name, since, context) for name in names]
    return {"data": models, "has_more": False, "first_id": names[0], "last_id": names[-1]}


def model_object(name: str, since: float, context: int | None) -> Json:
    """The model by one of its names. ``since``: seconds since the epoch; ``context``: None until it is loaded."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": rfc3339(since),
        "lifecycle": "active",
        "max_input_tokens": context,
        "max_tokens": context,
    }
