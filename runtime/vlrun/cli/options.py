"""Options that several commands share. The Python API checks the ranges."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vlrun.cli.model_choice import ModelChoice, choose_given_model, choose_model
from vlrun.cli.option_groups import OptionTable, option_group
from vlrun.cli.parameter_types import FILE, NAME, TASK, TEXT_OR_FILE
from vlrun.cli.parameter_types import MODEL as MODEL_TYPE
from vlrun.cli.progress_line import ProgressLine, timed
from vlrun.cli.terminal import print_note
from vlrun.errors import OptionError
from vlrun.storage.text_files import read_text, without_byte_order_mark

if TYPE_CHECKING:
    from vlrun.backends.openvino.hints import Hints
    from vlrun.tasks.definition import Language
    from vlrun.tasks.request import TaskRequest
    from vlrun.types.cache_config import CacheConfig
    from vlrun.types.options import Options
    from vlrun.vlm import VLM

MIB = 2**20
MAX_SCHEMA_BYTES = 1 << 20

ANSWER_OPTIONS: OptionTable = {
    "max_tokens": {"type": int, "help": "Maximum length of the answer in tokens. [default: 1024]"},
    "thinking_tokens": {
        "type": int,
        "metavar": "N",
        "help": "Maximum length of a Thinking model's reasoning; 0 is none. [default: 4096]",
    },
    "temperature": {"type": float, "help": "Sampling temperature; 0 is greedy. [default: the model's]"},
    "top_k": {"type": int, "help": "Sample from the K most likely tokens; 0 is off. [default: the model's]"},
    "top_p": {"type": float, "help": "Sample from the top tokens that sum up to P. [default: the model's]"},
    "min_p": {"type": float, "help": "Drop tokens below P times the most likely. [default: the model's]"},
    "repetition_penalty": {"type": float, "help": "Penalize tokens seen before. [default: the model's]"},
    "presence_penalty": {"type": float, "help": "Penalize tokens of the answer, once. [default: the model's]"},
    "frequency_penalty": {"type": float, "help": "Penalize them per occurrence. [default: the model's]"},
    "seed": {"type": int, "help": "Seed for reproducible sampling."},
    "stop": {"multiple": True, "metavar": "TEXT", "help": "Stop before TEXT; may be repeated."},
    "detail": {"type": click.Choice(["low", "auto", "high"]), "help": "Visual tokens per image. [default: auto]"},
    "max_image_tokens": {"type": int, "help": "Maximum visual tokens per image. [default: from --detail]"},
    "schema": {
        "type": TEXT_OR_FILE,
        "metavar": "FILE|JSON",
        "help": "JSON Schema that the answer must validate against.",
    },
    "repetition_guard": {
        "is_flag": True,
        "default": None,
        "help": "Stop an answer that repeats itself. [default: yes]",
    },
    "prompt_lookup": {
        "is_flag": True,
        "default": None,
        "help": "Speculative decoding of repeated text. [default: yes]",
    },
}
MODEL: OptionTable = {
    "model": {
        "aliases": ("-m",),
        "type": MODEL_TYPE,
        "metavar": "NAME|DIR",
        "help": "Name or folder of a model. [default: VLRUN_MODEL, or what the configuration file names]",
    },
}
MODEL_OPTIONS: OptionTable = {
    "model": {
        **MODEL["model"],
        "help": "Name or folder of a model. [default: VLRUN_MODEL, the configuration, or a demo]",
    },
    "context": {"type": click.IntRange(1), "help": "Tokens for prompt and answer. [default: as many as possible]"},
    "kv_memory": {
        "type": click.IntRange(1),
        "metavar": "MIB",
        "help": "KV cache memory. [default: a quarter of RAM; GPU: an eighth, at most 2048]",
    },
    "kv_disk": {
        "type": click.IntRange(0),
        "metavar": "MIB",
        "default": 2048,
        "help": "Disk space for cached image prefixes; 0 is off. [default: 2048]",
    },
    "progress": {
        "is_flag": True,
        "default": True,
        "help": "Show what is going on, if stderr is a terminal. [default: yes]",
    },
}
SYSTEM: OptionTable = {
    "system": {"type": NAME, "metavar": "TEXT", "help": "System prompt, which comes before the question."},
}
_PRECISION = click.Choice(["f32", "f16", "bf16"])
HINT_OPTIONS: OptionTable = {
    "device": {
        "type": NAME,
        "default": "CPU",
        "show_default": True,
        "help": "CPU, GPU, or auto: a GPU if it works.",
    },
    "backend": {
        "type": click.Choice(["openvino", "onnxruntime"]),
        "help": "Inference library. [default: the one that the model was exported for]",
    },
    "threads": {"type": click.IntRange(1, 1024), "help": "CPU threads. [default: all cores]"},
    "decoder_precision": {"type": _PRECISION, "help": "Inference precision. [default: f32]"},
    "vision_precision": {"type": _PRECISION, "help": "Inference precision. [default: the faster on this machine]"},
    "kv_precision": {
        "type": click.Choice(["u8", "f16", "bf16", "f32"]),
        "help": "Precision of the KV cache. [default: u8]",
    },
    "group_size": {"type": click.IntRange(0), "help": "Dynamic quantization; 0 is off. [default: the fastest here]"},
}
SHOW_THINKING: OptionTable = {
    "show_thinking": {
        "option": "thinking",
        "is_flag": True,
        "default": True,
        "help": "Show the reasoning, dimmed, if stderr is a terminal. [default: yes]",
    },
}
TASK_OPTIONS: OptionTable = {
    "task": {"type": TASK, "metavar": "NAME", "help": "Run a task; `vlrun tasks` lists them."},
    "tasks": {"type": FILE, "metavar": "FILE", "help": "TOML file with tasks of your own."},
    "items": {"metavar": "A,B", "help": "What the task counts or locates."},
    "fields": {"metavar": "A,B", "help": "What the task extracts."},
    "tiles": {"metavar": "CxR", "help": "Ask about each of C x R tiles of the image, and merge the answers."},
    "votes": {"type": int, "help": "Number of answers; the majority wins. [default: 1]"},
    "steps": {"is_flag": True, "help": "Ask for the reasoning first, then for the answer."},
    "language": {
        "type": click.Choice(["en", "zh"]),
        "help": "Language of the prompts of tasks and --steps. [default: as the question and items]",
    },
    **SYSTEM,
}


@dataclass(frozen=True)
class TaskOptions:
    """The values of ``TASK_OPTIONS``."""

    task: str | None = None
    tasks: Path | None = None
    items: str | None = None
    fields: str | None = None
    tiles: str | None = None
    votes: int = 1
    steps: bool = False
    language: Language | None = None
    system: str | None = None

    def request(self, question: str | None) -> TaskRequest:
        """Return the task request with a question. Raises OptionError."""
        from vlrun.media.region import parse_tiles
        from vlrun.tasks.definition import TaskArguments, find_task, load_tasks, split_names
        from vlrun.tasks.request import TaskRequest

        tasks = load_tasks(self.tasks) if self.tasks is not None else None
        return TaskRequest(
            question,
            find_task(self.task, tasks) if self.task is not None else None,
            TaskArguments(*(split_names(text) if text is not None else () for text in (self.items, self.fields))),
            parse_tiles(self.tiles) if self.tiles is not None else None,
            self.votes,
            self.steps,
            self.system,
            self.language,
        )


@dataclass(frozen=True)
class ModelOptions:
    """The values of ``MODEL_OPTIONS`` and ``HINT_OPTIONS``."""

    model: ModelChoice
    cache: CacheConfig
    hints: Hints
    progress: bool = True

    def progress_line(self) -> ProgressLine:
        """Return the line that shows the progress, if the user wants to see it."""
        return ProgressLine(self.progress)

    def load(self, line: ProgressLine, *, keep_vision_encoder: bool = True) -> VLM:
        """Start loading the model in the background, and show that. Raises as ``vlrun.load``."""
        from vlrun.storage import cache_paths
        from vlrun.vlm import load

        if not cache_paths.has_home():
            print_note("there is no home directory, so nothing is cached: set HOME or XDG_CACHE_HOME")
        if self.model.folder is None:
            print_note("no --model given: using the embedded demo model, which only knows synthetic images")
        line.show(timed(f"loading {self.model.name}", None, time.monotonic()))
        with self.model.named_in_errors():
            cache = replace(self.cache, keep_vision_encoder=keep_vision_encoder)
            vlm = load(self.model.folder, hints=self.hints, cache=cache, wait=False)
        with line.paused():
            for note in vlm.early_notes:
                print_note(note)
        return vlm


def _answer_options(schema: str | None = None, **given: Any) -> Options:
    from vlrun.types.options import Options

    return Options(**given, schema=None if schema is None else read_schema(schema))


def _model_options(**given: Any) -> ModelOptions:
    from vlrun.backends.openvino.hints import Hints
    from vlrun.types.cache_config import CacheConfig

    memory = given["kv_memory"] * MIB if "kv_memory" in given else None
    cache = CacheConfig(given.get("context"), memory, given["kv_disk"] * MIB)
    model = choose_model(given.get("model"))
    hints = Hints(**{key: given[key] for key in HINT_OPTIONS if key in given})
    return ModelOptions(model, cache, hints, given["progress"])


with_answer_options = option_group("options", ANSWER_OPTIONS, _answer_options)
with_task_options = option_group("task_options", TASK_OPTIONS, TaskOptions)
with_model = option_group("model", MODEL, choose_given_model)
"""The option of commands that need a model to be named."""
with_model_options = option_group("model_options", {**MODEL_OPTIONS, **HINT_OPTIONS}, _model_options)


def read_schema(text: str) -> str:
    """Return a JSON Schema that was given as JSON or as a file name. Raises OptionError."""
    inline = without_byte_order_mark(text)
    if not inline.strip():
        raise OptionError("the schema is empty: leave out --schema for any text, or use true for any JSON")
    if inline.lstrip()[:1] in ("{", "") or inline.strip() in ("true", "false"):
        return inline
    try:
        return read_text(text, MAX_SCHEMA_BYTES)
    except OSError as error:
        raise OptionError(f"cannot read the schema '{text}': {error.strerror}") from None
