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
    from vlrun.asking import Inquiry, Result, inquire
    from vlrun.conversation import Conversation
    from vlrun.loading import Room
    from vlrun.media.drawing import draw_marks
    from vlrun.media.enhance import enhance
    from vlrun.media.frame import Frame
    from vlrun.media.heat import overlay_heat
    from vlrun.media.image import Picture, open_picture
    from vlrun.media.region import Region, Tiles, crop
    from vlrun.model.device import Hints
    from vlrun.question import Turn
    from vlrun.tasks import Names, Task, load_tasks
    from vlrun.text.grounding import Mark
    from vlrun.text.heat import Heat
    from vlrun.text.template import ToolCall
    from vlrun.vlm import VLM, load

__version__ = "0.1.0"

__all__ = [
    "VLM",
    "Answer",
    "Chunk",
    "Conversation",
    "Frame",
    "Heat",
    "Hints",
    "Inquiry",
    "Mark",
    "Names",
    "Options",
    "Picture",
    "Region",
    "Result",
    "Room",
    "Task",
    "Tiles",
    "Timings",
    "ToolCall",
    "Turn",
    "Usage",
    "VlrunError",
    "crop",
    "draw_marks",
    "enhance",
    "inquire",
    "load",
    "load_tasks",
    "open_picture",
    "overlay_heat",
]

_HOMES = {
    "Answer": "vlrun.answer",
    "Chunk": "vlrun.answer",
    "Conversation": "vlrun.conversation",
    "Frame": "vlrun.media.frame",
    "Heat": "vlrun.text.heat",
    "Hints": "vlrun.model.device",
    "Inquiry": "vlrun.asking",
    "Mark": "vlrun.text.grounding",
    "Names": "vlrun.tasks",
    "Options": "vlrun.answer",
    "Picture": "vlrun.media.image",
    "Region": "vlrun.media.region",
    "Result": "vlrun.asking",
    "Room": "vlrun.loading",
    "Task": "vlrun.tasks",
    "Tiles": "vlrun.media.region",
    "Timings": "vlrun.answer",
    "ToolCall": "vlrun.text.template",
    "Turn": "vlrun.question",
    "Usage": "vlrun.answer",
    "VLM": "vlrun.vlm",
    "crop": "vlrun.media.region",
    "draw_marks": "vlrun.media.drawing",
    "enhance": "vlrun.media.enhance",
    "inquire": "vlrun.asking",
    "load": "vlrun.vlm",
    "load_tasks": "vlrun.tasks",
    "open_picture": "vlrun.media.image",
    "overlay_heat": "vlrun.media.heat",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: ``vlrun --help`` must not load OpenVINO."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vlrun' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
