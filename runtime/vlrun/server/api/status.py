"""``/v1/models`` and ``/health``: types of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NotRequired, TypeAlias, TypedDict

Status: TypeAlias = Literal["ready", "loading", "stuck", "stopping"]


class Model(TypedDict):
    """A name of the served model. ``created``: start of the service, in seconds since 1970; ``context`` (an extension):
    tokens that a prompt and its answer may have together, absent while the model is loading.
    """

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    context: NotRequired[int]


class Models(TypedDict):
    """All names of the served model."""

    object: Literal["list"]
    data: list[Model]


class Alive(TypedDict):
    """The process answers."""

    status: Literal["ok"]


class Readiness(TypedDict):
    """Whether the model is loaded and makes progress, or is idle. ``queue``: requests ``running`` and ``waiting``, and
    the ``limit`` of these; ``notes`` are about the device.
    """

    ready: bool
    status: Status
    model: str
    device: str
    queue: dict[str, int]
    notes: list[str]


def models(names: Sequence[str], created: int, context: int | None) -> Models:
    """All names of the model. ``context`` is None while it is loading."""
    common: dict[str, int] = {} if context is None else {"context": context}
    data = [{"id": name, "object": "model", "created": created, "owned_by": "vlrun", **common} for name in names]
    return {"object": "list", "data": data}  # type: ignore[typeddict-item] # of the spread
