"""What is kept in memory and on disk between requests."""

from __future__ import annotations

from dataclasses import dataclass

from vlrun.errors import OptionError
from vlrun.types.arguments import check_fields, flag, optional, whole_number


@dataclass(frozen=True)
class CacheConfig:
    """Limits of the KV cache, and whether the vision encoder stays in memory.

    Attributes:
        context: Tokens of a prompt and its answer; None for the maximum of model and KV cache.
        kv_memory: Bytes of memory, shared by all requests; None for a quarter of the machine's memory.
        kv_disk: Bytes of disk for image prefixes that later processes reuse.
        keep_vision_encoder: Whether it stays in memory (0.4 GB in the 2B model). Otherwise it is freed when the images
            of the first question are encoded, if that is before the decoder's weights are unpacked, and loaded again
            for the next image.
    """

    context: int | None = None
    kv_memory: int | None = None
    kv_disk: int = 0
    keep_vision_encoder: bool = True

    def __post_init__(self) -> None:
        checks = {
            "context": optional(whole_number),
            "kv_memory": optional(whole_number),
            "kv_disk": whole_number,
            "keep_vision_encoder": flag,
        }
        check_fields(self, checks)
        for name, minimum, unit in (("context", 1, "token"), ("kv_memory", 1, "byte"), ("kv_disk", 0, "bytes")):
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise OptionError(f"{name} must be a whole number of at least {minimum} {unit}, not {value}")
