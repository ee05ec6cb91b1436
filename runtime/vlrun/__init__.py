"""Run Qwen3-VL on Intel CPUs and integrated GPUs, offline.

    import vlrun

    vlm = vlrun.load()                                  # the embedded model; or vlrun.load("qwen3-vl-2b-int8")
    print(vlm.ask("shelf.png", "How many bottles are there?").text)

Importing this package loads no inference backend: each public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING

from vlrun.errors import VlrunError

if TYPE_CHECKING:
    from vlrun.backends.openvino.hints import Hints
    from vlrun.conversation import Conversation
    from vlrun.heatmap.heat_map import Heat
    from vlrun.heatmap.overlay import overlay_heat
    from vlrun.media.enhance import enhance
    from vlrun.media.image import Image, open_image
    from vlrun.media.region import Region, Tiles, crop
    from vlrun.media.transform import ImageTransform
    from vlrun.tasks.definition import Task, TaskArguments, load_tasks
    from vlrun.tasks.drawing import draw_marks
    from vlrun.tasks.request import TaskRequest, TaskResult
    from vlrun.tasks.run import run_task
    from vlrun.types.answer import Answer, Chunk, Timings, Usage
    from vlrun.types.cache_config import CacheConfig
    from vlrun.types.mark import Mark
    from vlrun.types.options import Options
    from vlrun.types.turn import ToolCall, Turn
    from vlrun.vlm import VLM, load

__version__ = "0.1.0"

__all__ = [
    "VLM",
    "Answer",
    "CacheConfig",
    "Chunk",
    "Conversation",
    "Heat",
    "Hints",
    "Image",
    "ImageTransform",
    "Mark",
    "Options",
    "Region",
    "Task",
    "TaskArguments",
    "TaskRequest",
    "TaskResult",
    "Tiles",
    "Timings",
    "ToolCall",
    "Turn",
    "Usage",
    "VlrunError",
    "crop",
    "draw_marks",
    "enhance",
    "load",
    "load_tasks",
    "open_image",
    "overlay_heat",
    "run_task",
]

_MODULES = {
    "Answer": "vlrun.types.answer",
    "CacheConfig": "vlrun.types.cache_config",
    "Chunk": "vlrun.types.answer",
    "Conversation": "vlrun.conversation",
    "Heat": "vlrun.heatmap.heat_map",
    "Hints": "vlrun.backends.openvino.hints",
    "Image": "vlrun.media.image",
    "ImageTransform": "vlrun.media.transform",
    "Mark": "vlrun.types.mark",
    "Options": "vlrun.types.options",
    "Region": "vlrun.media.region",
    "Task": "vlrun.tasks.definition",
    "TaskArguments": "vlrun.tasks.definition",
    "TaskRequest": "vlrun.tasks.request",
    "TaskResult": "vlrun.tasks.request",
    "Tiles": "vlrun.media.region",
    "Timings": "vlrun.types.answer",
    "ToolCall": "vlrun.types.turn",
    "Turn": "vlrun.types.turn",
    "Usage": "vlrun.types.answer",
    "VLM": "vlrun.vlm",
    "crop": "vlrun.media.region",
    "draw_marks": "vlrun.tasks.drawing",
    "enhance": "vlrun.media.enhance",
    "load": "vlrun.vlm",
    "load_tasks": "vlrun.tasks.definition",
    "open_image": "vlrun.media.image",
    "overlay_heat": "vlrun.heatmap.overlay",
    "run_task": "vlrun.tasks.run",
}

_DEPRECATED = {
    "Frame": "ImageTransform",
    "Inquiry": "TaskRequest",
    "Names": "TaskArguments",
    "Picture": "Image",
    "Result": "TaskResult",
    "Room": "CacheConfig",
    "inquire": "run_task",
    "open_picture": "open_image",
}
"""Former public names that documentation used, and the names that replace them."""


def __getattr__(name: str) -> object:
    if name in _DEPRECATED:
        warnings.warn(f"vlrun.{name} is now vlrun.{_DEPRECATED[name]}", DeprecationWarning, stacklevel=2)
        name = _DEPRECATED[name]
    if name not in _MODULES:
        raise AttributeError(f"module 'vlrun' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)
