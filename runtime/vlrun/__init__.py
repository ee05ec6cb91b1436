"""vlrun: Qwen3-VL on the Intel machine that already stands there.

    import vlrun

    vlm = vlrun.load()                                  # the embedded model; or vlrun.load("qwen3-vl-2b-int8")
    print(vlm.ask("shelf.png", "How many bottles are there?").text)

Nothing heavy is imported until a model is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from vlrun.errors import VlrunError

if TYPE_CHECKING:
    from vlrun.answer import Answer, Chunk, Options, Timings, Usage
    from vlrun.loading import Room
    from vlrun.media.image import Picture, open_picture
    from vlrun.model.device import Hints
    from vlrun.vlm import VLM, load

__version__ = "0.1.0"

__all__ = [
    "VLM",
    "Answer",
    "Chunk",
    "Hints",
    "Options",
    "Picture",
    "Room",
    "Timings",
    "Usage",
    "VlrunError",
    "load",
    "open_picture",
]

_HOMES = {
    "Answer": "vlrun.answer",
    "Chunk": "vlrun.answer",
    "Options": "vlrun.answer",
    "Timings": "vlrun.answer",
    "Usage": "vlrun.answer",
    "Picture": "vlrun.media.image",
    "open_picture": "vlrun.media.image",
    "Hints": "vlrun.model.device",
    "Room": "vlrun.loading",
    "VLM": "vlrun.vlm",
    "load": "vlrun.vlm",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: ``vlrun --help`` must not load OpenVINO."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vlrun' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
