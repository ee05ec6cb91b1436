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
    from vlrun.backends.openvino.device import Hints
    from vlrun.backends.openvino.loader import CacheConfig
    from vlrun.conversation import Conversation
    from vlrun.heatmap.heat_map import Heat
    from vlrun.heatmap.overlay import overlay_heat
    from vlrun.media.enhance import enhance
    from vlrun.media.image import Image, open_image
    from vlrun.media.region import Region, Tiles, crop
    from vlrun.media.transform import ImageTransform
    from vlrun.models.qwen3_vl.grounding import Mark
    from vlrun.prompt.builder import Turn
    from vlrun.prompt.chat_template import ToolCall
    from vlrun.tasks.definition import Task, TaskArguments, load_tasks
    from vlrun.tasks.drawing import draw_marks
    from vlrun.tasks.request import TaskRequest, TaskResult, run_task
    from vlrun.types import Answer, Chunk, Options, Timings, Usage
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
    "Image",
    "Inquiry",
    "Mark",
    "Names",
    "Options",
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
    "open_image",
    "overlay_heat",
]

_HOMES = {
    "Answer": "vlrun.types",
    "Chunk": "vlrun.types",
    "Conversation": "vlrun.conversation",
    "Frame": "vlrun.media.transform",
    "Heat": "vlrun.heatmap.heat_map",
    "Hints": "vlrun.backends.openvino.device",
    "Inquiry": "vlrun.tasks.request",
    "Mark": "vlrun.models.qwen3_vl.grounding",
    "Names": "vlrun.tasks.definition",
    "Options": "vlrun.types",
    "Image": "vlrun.media.image",
    "Region": "vlrun.media.region",
    "Result": "vlrun.tasks.request",
    "Room": "vlrun.backends.openvino.loader",
    "Task": "vlrun.tasks.definition",
    "Tiles": "vlrun.media.region",
    "Timings": "vlrun.types",
    "ToolCall": "vlrun.prompt.chat_template",
    "Turn": "vlrun.prompt.builder",
    "Usage": "vlrun.types",
    "VLM": "vlrun.vlm",
    "crop": "vlrun.media.region",
    "draw_marks": "vlrun.tasks.drawing",
    "enhance": "vlrun.media.enhance",
    "inquire": "vlrun.tasks.request",
    "load": "vlrun.vlm",
    "load_tasks": "vlrun.tasks.definition",
    "open_image": "vlrun.media.image",
    "overlay_heat": "vlrun.heatmap.overlay",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: ``vlrun --help`` must not load OpenVINO."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vlrun' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
