"""The field ``vlrun`` of chat completion requests: heat maps."""

from __future__ import annotations

from vlrun.server.api_errors import bad_request
from vlrun.server.generation_request import GenerationRequest
from vlrun.server.limits import ServerLimits


def check_heat_map(request: GenerationRequest, limits: ServerLimits) -> None:
    """Raise ApiError (400) if a request for a heat map has no image, several answers, or too long an answer."""
    if not request.options.heatmap:
        return
    if not request.images:
        raise bad_request("a heat map needs an image: there is none in the messages", "vlrun.heatmap")
    if request.n > 1:
        raise bad_request("a heat map needs a single answer: leave out n", "n")
    if (request.options.max_tokens or 0) > limits.heatmap_tokens:
        message = f"an answer with a heat map has at most {limits.heatmap_tokens} tokens: lower max_tokens"
        raise bad_request(message, "max_tokens")
