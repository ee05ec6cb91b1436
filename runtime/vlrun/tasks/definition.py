"""Task definitions: prompts in two languages, answer schema, sampling options, visual token limits.

The built-in tasks are in ``tasks.toml``; a user's TOML file can add tasks.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from vlrun.errors import OptionError
from vlrun.storage.text_files import read_text
from vlrun.types import arguments as check

Language: TypeAlias = Literal["en", "zh"]
Requirement: TypeAlias = Literal["none", "optional", "required"]
MergeRule: TypeAlias = Literal["none", "join", "sum", "boxes", "first"]
"""How the answers about tiles are merged: not at all, texts joined, numbers summed, boxes mapped to the whole image, or
the first non-empty value of each field.
"""

BUILT_IN_TASKS = Path(__file__).parent / "tasks.toml"
MAX_FILE_BYTES = 1 << 20
MAX_NAMES, MAX_NAME_LENGTH = 100, 100
"""Items or fields per request, and characters of each."""
MAX_IMAGE_TOKENS = 16384

_CHINESE = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
_SEPARATOR = re.compile("[,，、]")
_RENAMED_KEYS = {"pictures": "images"}
"""Former keys of task files, and their replacements."""


class TaskSampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task's defaults for ``vlrun.Options``; the caller's options take precedence."""

    temperature: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task; the attributes are the keys of its TOML table.

    Attributes:
        about: One line for ``vlrun tasks``.
        prompt: The question, by language.
        steps: The question that asks for the reasoning first, by language.
        anything: Replaces ``{items}`` if the caller gives none, by language.
        images: Minimum number of images.
        image_tokens: Minimum and maximum of visual tokens per image.
        schema: JSON Schema of the answer. A property ``{items}`` or ``{fields}`` is repeated for each of them.
    """

    about: str
    prompt: Mapping[Language, str]
    steps: Mapping[Language, str] = {}
    anything: Mapping[Language, str] = {}
    items: Requirement = "none"
    fields: Requirement = "none"
    images: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    image_tokens: tuple[int, int] | None = None
    sampling: TaskSampling = TaskSampling()
    merge: MergeRule = "none"
    schema: str | None = None

    def __post_init__(self) -> None:
        check.text("about", self.about)
        check.optional(check.text)("schema", self.schema)
        texts = {"prompt": self.prompt, "steps": self.steps, "anything": self.anything}
        for name, value in texts.items():
            for language, content in check.mapping(name, value).items():
                check.text(f"{name}.{language}", content)

    def question(self, language: Language, arguments: TaskArguments, extra: str = "") -> str:
        """Return the prompt with its placeholders replaced, and ``extra`` text below."""
        return f"{self._fill(self.prompt, language, arguments)}\n{extra}".strip()

    def steps_question(self, language: Language, arguments: TaskArguments, default: str = "") -> str:
        """Return the question that asks for the reasoning: the task's own, or the prompt with ``default`` below."""
        if self.steps:
            return self._fill(self.steps, language, arguments)
        return self.question(language, arguments, default)

    def answer_schema(self, arguments: TaskArguments) -> Mapping[str, object] | None:
        """Return the JSON Schema of the answer, None for free text."""
        if self.schema is None:
            return None
        names = {"{items}": arguments.items, "{fields}": arguments.fields}
        return msgspec.convert(_expand(json.loads(self.schema), names), dict[str, object])

    def _fill(self, texts: Mapping[Language, str], language: Language, arguments: TaskArguments) -> str:
        text = _in_language(texts, language)
        separator = "、" if language_of(text) == "zh" else ", "
        items = ("、" if language == "zh" else ", ").join(arguments.items)
        values = {
            "{items}": items or _in_language(self.anything or _ANYTHING, language),
            "{fields}": separator.join(arguments.fields),
            "{fields:json}": json.dumps(dict.fromkeys(arguments.fields, ""), ensure_ascii=False),
        }
        return re.sub(r"\{(?:items|fields(?::json)?)\}", lambda placeholder: values[placeholder[0]], text)


class TaskArguments(msgspec.Struct, frozen=True):
    """Items that a task counts or locates, or fields that it extracts."""

    items: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("items", "fields"):
            check.tuple_of(check.text, "texts")(name, getattr(self, name))


NO_ARGUMENTS = TaskArguments()
_ANYTHING: Mapping[Language, str] = {"en": "everything", "zh": "所有物品"}


@cache
def built_in_tasks() -> Mapping[str, Task]:
    """Return the built-in tasks by name."""
    return _parse(BUILT_IN_TASKS.read_text(encoding="utf-8"), BUILT_IN_TASKS.name)


def load_tasks(path: str | os.PathLike[str]) -> Mapping[str, Task]:
    """Return the built-in tasks and those of a TOML file, which replace built-in ones of the same name.

    Raises:
        OptionError: The file cannot be read, or it does not define tasks.
    """
    source = check.path("path", path)
    name = str(source)
    try:
        text = read_text(source, MAX_FILE_BYTES)
    except OSError as error:
        raise OptionError(f"cannot read the tasks '{name}': {error.strerror}") from None
    return {**built_in_tasks(), **_parse(text, name)}


def find_task(name: str, tasks: Mapping[str, Task] | None = None) -> Task:
    """Return a task, by default a built-in one. Raises OptionError, which lists the known names."""
    known = built_in_tasks() if tasks is None else tasks
    if name not in known:
        raise OptionError(f"there is no task '{name}'; the tasks are {', '.join(known)}")
    return known[name]


def check_arguments(task: Task, arguments: TaskArguments) -> None:
    """Raise OptionError if arguments are missing, not allowed, or exceed the limits."""
    kinds = (("items", task.items, arguments.items), ("fields", task.fields, arguments.fields))
    for kind, requirement, names in kinds:
        if requirement == "required" and not names:
            raise OptionError(f"this task needs {kind}, as in --{kind} a,b,c")
        if requirement == "none" and names:
            raise OptionError(f"this task takes no {kind}")
        if len(names) > MAX_NAMES or any(len(name) > MAX_NAME_LENGTH for name in names):
            raise OptionError(f"a task takes at most {MAX_NAMES} {kind} of at most {MAX_NAME_LENGTH} characters each")


def split_names(text: str) -> tuple[str, ...]:
    """Return the distinct names of a list such as ``bottle, can`` or ``瓶子、罐子``. Raises OptionError for none."""
    names = tuple(dict.fromkeys(part.strip() for part in _SEPARATOR.split(text) if part.strip()))
    if not names:
        raise OptionError("the list of names is empty")
    return names


def language_of(*texts: str) -> Language:
    """Return "zh" if any of the texts has a Chinese character, else "en"."""
    return "zh" if any(_CHINESE.search(text) for text in texts) else "en"


def _in_language(texts: Mapping[Language, str], language: Language) -> str:
    return texts.get(language) or texts.get("en") or texts["zh"]


def _expand(schema: object, names: Mapping[str, tuple[str, ...]]) -> object:
    """Replace the placeholders in a schema with names. Without names, any property name is allowed."""
    if isinstance(schema, list):
        parts = (names[p] if isinstance(p, str) and p in names else (_expand(p, names),) for p in schema)
        return list(chain.from_iterable(parts))
    if not isinstance(schema, dict):
        return schema
    properties = schema.get("properties")
    members = properties.items() if isinstance(properties, dict) else ()
    open_schemas = [part for key, part in members if key in names and not names[key]]
    result = {key: _expand(part, names) for key, part in schema.items() if key not in names}
    for placeholder in names:
        if placeholder in schema:
            result |= {name: _expand(schema[placeholder], names) for name in names[placeholder]}
    if open_schemas:
        result["additionalProperties"] = _expand(open_schemas[0], names)
    return result


def _parse(text: str, name: str) -> Mapping[str, Task]:
    try:
        tables = {key: _rename_keys(table) for key, table in tomllib.loads(text).items()}
        tasks = msgspec.convert(tables, dict[str, Task])
        for task in tasks.values():
            if not task.prompt or not all([*task.prompt.values(), *task.steps.values(), *task.anything.values()]):
                raise ValueError("a task needs a prompt, and no text may be empty")
            if task.image_tokens and not 1 <= task.image_tokens[0] <= task.image_tokens[1] <= MAX_IMAGE_TOKENS:
                raise ValueError(f"image_tokens must be a minimum and a maximum between 1 and {MAX_IMAGE_TOKENS}")
            task.answer_schema(NO_ARGUMENTS)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError, RecursionError) as error:
        raise OptionError(f"'{name}' is not a task file: {' '.join(str(error).split())}") from None
    return tasks


def _rename_keys(table: object) -> object:
    for old, new in _RENAMED_KEYS.items():
        if isinstance(table, dict) and old in table and new not in table:
            table[new] = table.pop(old)
    return table
