"""How much memory and disk the KV cache may use."""

from __future__ import annotations

from dataclasses import dataclass

from vlrun.errors import OptionError


@dataclass(frozen=True)
class CacheConfig:
    """How much the model may hold. ``context``: tokens of one prompt and its answer, None for as many as the model and
    the KV cache allow; ``kv_memory``: bytes of the KV cache, shared by all answers, None for a fourth of the memory;
    ``kv_disk``: bytes of the user's cache folder for what is known of images, so that the next process knows it too.
    """

    context: int | None = None
    kv_memory: int | None = None
    kv_disk: int = 0

    def __post_init__(self) -> None:
        for name, least, unit in (("context", 1, "token"), ("kv_memory", 1, "byte"), ("kv_disk", 0, "bytes")):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise OptionError(f"{name} must be a whole number of at least {least} {unit}, not {value}")
