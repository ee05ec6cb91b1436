"""``/api/tags``, ``/api/show``, ``/api/ps``, ``/api/version`` and ``/api/pull``: describes the one model to Ollama's
clients. What would change the models of the machine, or embed a text, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import vlrun
from vlrun.manifest import Manifest
from vlrun.models.registry import family_of
from vlrun.server.api.answers import Json, rfc3339
from vlrun.server.api.ollama.parsing import with_tag
from vlrun.server.api_errors import bad_request

API_VERSION = "0.14.0"
"""The version of Ollama whose API this is: clients refuse versions that are older than the features they use."""
SEEING_FAMILY = "clip"
"""Older clients take a model for one that sees if it has this family."""
WEIGHT_BYTES = {"int4": 0.5, "int8": 1.0, "fp16": 2.0, "fp32": 4.0}
NEVER = "2318-01-01T00:00:00Z"
"""When the model is unloaded, as far as Ollama's clients can read it."""
REFUSED = {
    "copy": "POST",
    "create": "POST",
    "delete": "DELETE",
    "embed": "POST",
    "embeddings": "POST",
    "push": "POST",
}
"""Endpoints that are refused, with their methods."""


@dataclass(frozen=True)
class ServedModel:
    """The model as clients see it.

    Attributes:
        manifest: Its manifest.
        fingerprint: The SHA-256 of its manifest.
        names: All its names.
        since: Seconds since the epoch at the start of the service.
        context: Tokens of its context; None until it is loaded.
        thinks: Whether it reasons before it answers.
    """

    manifest: Manifest
    fingerprint: str
    names: Sequence[str]
    since: float
    context: int | None
    thinks: bool

    @property
    def architecture(self) -> str:
        """The name of its architecture."""
        return family_of(self.manifest).architecture

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.manifest.files.values())

    @property
    def parameters(self) -> int:
        """Parameters, estimated from the sizes of the weights."""
        used, sizes = self.manifest.quantization, self.manifest.weight_bytes()
        parts = zip((used.decoder, used.vision), sizes, strict=True)
        return round(sum(size / WEIGHT_BYTES.get(precision, 1.0) for precision, size in parts))

    @property
    def capabilities(self) -> list[str]:
        """What Ollama's clients ask for before they offer it."""
        return ["completion", "vision", "tools", *(["thinking"] if self.thinks else [])]


def version() -> Json:
    """The answer of ``/api/version``."""
    return {"version": API_VERSION, "vlrun": vlrun.__version__}


def tags(model: ServedModel) -> Json:
    """The answer of ``/api/tags``."""
    return {"models": [_entry(model, name) for name in model.names]}


def running(model: ServedModel) -> Json:
    """The answer of ``/api/ps``: the model once it is loaded, which it stays."""
    if model.context is None:
        return {"models": []}
    loaded = {"expires_at": NEVER, "size_vram": 0, "context_length": model.context}
    return {"models": [{**_entry(model, name), **loaded} for name in model.names[:1]]}


def show(model: ServedModel) -> Json:
    """The answer of ``/api/show``."""
    text, vision, architecture = model.manifest.text, model.manifest.vision, model.architecture
    context = text.max_positions if model.context is None else model.context
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "license": "",
        "details": _details(model),
        "model_info": {
            "general.architecture": architecture,
            "general.basename": model.manifest.name,
            "general.parameter_count": model.parameters,
            f"{architecture}.context_length": context,
            f"{architecture}.block_count": text.layers,
            f"{architecture}.embedding_length": text.hidden,
            f"{architecture}.attention.head_count": text.heads,
            f"{architecture}.attention.head_count_kv": text.kv_heads,
            f"{architecture}.vision.block_count": vision.depth,
            f"{architecture}.vision.embedding_length": vision.hidden,
        },
        "capabilities": model.capabilities,
        "modified_at": rfc3339(model.since),
    }


def refuse(endpoint: str) -> None:
    """Raise the ApiError (400) of an endpoint that is not there."""
    if endpoint.startswith("embed"):
        reason = "this service makes no embeddings"
    else:
        reason = "this service has one model, which its clients cannot change: start vlrun serve with another one"
    raise bad_request(f"/api/{endpoint} is not supported: {reason}", code="unsupported_endpoint")


def _entry(model: ServedModel, name: str) -> Json:
    return {
        "name": with_tag(name),
        "model": with_tag(name),
        "modified_at": rfc3339(model.since),
        "size": model.size,
        "digest": model.fingerprint,
        "details": _details(model),
    }


def _details(model: ServedModel) -> Json:
    return {
        "parent_model": "",
        "format": "openvino",
        "family": model.architecture,
        "families": [model.architecture, SEEING_FAMILY],
        "parameter_size": _rounded(model.parameters),
        "quantization_level": model.manifest.quantization.decoder.upper(),
    }


def _rounded(count: int) -> str:
    """A number as Ollama writes it: 2.1B, 1.43M."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= unit:
            return f"{count / unit:.1f}{name}" if unit == 1e9 else f"{count / unit:.2f}{name}"
    return str(count)
