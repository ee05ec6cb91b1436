"""Run Qwen3-VL on Intel CPUs and integrated GPUs, offline.

    import vlrun

    vlm = vlrun.load("qwen3-vl-2b-int8")                # a model folder; without it, the embedded demo model
    print(vlm.ask("shelf.png", "How many bottles are there?").text)

Public names are imported on first use, so that importing the package loads no inference backend.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlrun import errors as errors
    from vlrun.backends.openvino.hints import Hints
    from vlrun.conversation import Conversation
    from vlrun.each import Outcome
    from vlrun.errors import VlrunError
    from vlrun.heatmap.heat_map import Heat
    from vlrun.heatmap.overlay import overlay_heat
    from vlrun.media.camera import Camera, CameraFrame
    from vlrun.media.clip import Clip
    from vlrun.media.enhance import enhance
    from vlrun.media.image import Image, open_image
    from vlrun.media.image_files import find_images
    from vlrun.media.pending_image import Pdf, open_pages
    from vlrun.media.region import Region, Tiles, crop
    from vlrun.media.transform import ImageTransform
    from vlrun.media.video import Video, open_video
    from vlrun.tasks.definition import Task, TaskArguments, load_tasks
    from vlrun.tasks.drawing import draw_marks
    from vlrun.tasks.request import TaskRequest, TaskResult
    from vlrun.tasks.run import run_task
    from vlrun.tasks.windows import WindowAnswer, ask_windows
    from vlrun.types.answer import Answer, Chunk, Timings, Usage
    from vlrun.types.cache_config import CacheConfig
    from vlrun.types.mark import Mark
    from vlrun.types.options import Options
    from vlrun.types.time_span import TimeSpan
    from vlrun.types.turn import ToolCall, Turn
    from vlrun.vlm import VLM, load

__version__ = "0.1.0"

__all__ = [
    "VLM",
    "Answer",
    "CacheConfig",
    "Camera",
    "CameraFrame",
    "Chunk",
    "Clip",
    "Conversation",
    "Heat",
    "Hints",
    "Image",
    "ImageTransform",
    "Mark",
    "Options",
    "Outcome",
    "Pdf",
    "Region",
    "Task",
    "TaskArguments",
    "TaskRequest",
    "TaskResult",
    "Tiles",
    "TimeSpan",
    "Timings",
    "ToolCall",
    "Turn",
    "Usage",
    "Video",
    "VlrunError",
    "WindowAnswer",
    "ask_windows",
    "crop",
    "draw_marks",
    "enhance",
    "find_images",
    "load",
    "load_tasks",
    "open_image",
    "open_pages",
    "open_video",
    "overlay_heat",
    "run_task",
]

_NAMES = {
    "vlrun.backends.openvino.hints": "Hints",
    "vlrun.conversation": "Conversation",
    "vlrun.each": "Outcome",
    "vlrun.errors": "VlrunError",
    "vlrun.heatmap.heat_map": "Heat",
    "vlrun.heatmap.overlay": "overlay_heat",
    "vlrun.media.camera": "Camera CameraFrame",
    "vlrun.media.clip": "Clip",
    "vlrun.media.enhance": "enhance",
    "vlrun.media.image": "Image open_image",
    "vlrun.media.image_files": "find_images",
    "vlrun.media.pending_image": "Pdf open_pages",
    "vlrun.media.region": "Region Tiles crop",
    "vlrun.media.transform": "ImageTransform",
    "vlrun.media.video": "Video open_video",
    "vlrun.tasks.definition": "Task TaskArguments load_tasks",
    "vlrun.tasks.drawing": "draw_marks",
    "vlrun.tasks.request": "TaskRequest TaskResult",
    "vlrun.tasks.run": "run_task",
    "vlrun.tasks.windows": "WindowAnswer ask_windows",
    "vlrun.types.answer": "Answer Chunk Timings Usage",
    "vlrun.types.cache_config": "CacheConfig",
    "vlrun.types.mark": "Mark",
    "vlrun.types.options": "Options",
    "vlrun.types.time_span": "TimeSpan",
    "vlrun.types.turn": "ToolCall Turn",
    "vlrun.vlm": "VLM load",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

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
"""Former public names and their replacements."""


def __dir__() -> list[str]:
    """List the public names, of which few are imported yet."""
    return sorted([*__all__, "errors", *(name for name in globals() if name.startswith("__"))])


def __getattr__(name: str) -> object:
    if name in _DEPRECATED:
        warnings.warn(f"vlrun.{name} is now vlrun.{_DEPRECATED[name]}", DeprecationWarning, stacklevel=2)
        name = _DEPRECATED[name]
    if name == "errors":
        return importlib.import_module("vlrun.errors")
    if name not in _MODULES:
        raise AttributeError(f"module 'vlrun' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)
