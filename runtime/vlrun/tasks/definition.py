"""Tasks by name: a prompt in two languages, the form of the answer, how to sample, and how many visual tokens it needs.

They are data (``tasks.toml`` beside this file), and a user's own file adds to them. Knows words and JSON Schemas; knows
neither images nor a model.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from vlrun.errors import OptionError

Language: TypeAlias = Literal["en", "zh"]
Need: TypeAlias = Literal["none", "optional", "required"]
Merge: TypeAlias = Literal["none", "join", "sum", "boxes", "first"]
"""How answers about parts of an image become one: not at all, text below text, numbers added up, boxes put together
in the whole image, or of every field the first that is not empty.
"""

BUILT_IN = Path(__file__).parent / "tasks.toml"
MOST_FILE_BYTES = 1 << 20
MOST_NAMES, MOST_NAME_LENGTH = 100, 100
"""Items or fields of one question, and characters of each."""
MOST_IMAGE_TOKENS = 16384

_CHINESE = re.compile("[\u3400-\u9fff\uf900-\ufaff]")
_SPLIT = re.compile("[,，、]")


class TaskSampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of an answer that a task sets where the caller does not; names as in ``vlrun.Options``."""

    temperature: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One task as its file has it. ``image_tokens``: least and most visual tokens an image; ``steps``: what is asked
    first where reasoning is wanted; ``anything``: what ``{items}`` says when none are given; ``schema``: JSON Schema,
    in which a property named ``{items}`` or ``{fields}`` stands for each of them.
    """

    about: str
    prompt: Mapping[Language, str]
    steps: Mapping[Language, str] = {}
    anything: Mapping[Language, str] = {}
    items: Need = "none"
    fields: Need = "none"
    images: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    image_tokens: tuple[int, int] | None = None
    sampling: TaskSampling = TaskSampling()
    merge: Merge = "none"
    schema: str | None = None

    def question(self, language: Language, names: TaskArguments, more: str = "") -> str:
        """The prompt, with what was given put in, and ``more`` that the user has to say below it."""
        return "\n".join([_filled(self._in(self.prompt, language), self._words(language, names), names), more]).strip()

    def steps_question(self, language: Language, names: TaskArguments, usual: str = "") -> str:
        """What is asked first, before the answer: the task's own words, or its question with the ``usual`` ones."""
        if self.steps:
            return _filled(self._in(self.steps, language), self._words(language, names), names)
        return self.question(language, names, usual)

    def form(self, names: TaskArguments) -> Mapping[str, object] | None:
        """The JSON Schema of the answer, None for free text."""
        if self.schema is None:
            return None
        known = {"{items}": names.items, "{fields}": names.fields}
        return msgspec.convert(_expanded(json.loads(self.schema), known), dict[str, object])

    def _words(self, language: Language, names: TaskArguments) -> str:
        return _listed(names.items, language) or self._in(self.anything or _ANYTHING, language)

    @staticmethod
    def _in(texts: Mapping[Language, str], language: Language) -> str:
        return texts.get(language) or texts.get("en") or texts["zh"]


class TaskArguments(msgspec.Struct, frozen=True):
    """What a task is to count, find or fill in."""

    items: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()


NO_ARGUMENTS = TaskArguments()
_ANYTHING: Mapping[Language, str] = {"en": "everything", "zh": "所有物品"}


@cache
def built_in() -> Mapping[str, Task]:
    """The tasks that come with vlrun, by name."""
    return _parsed(BUILT_IN.read_text(encoding="utf-8"), BUILT_IN.name)


def load_tasks(path: str | os.PathLike[str]) -> Mapping[str, Task]:
    """The built-in tasks and those of a user's file, which come first where names are the same.

    Raises OptionError for a file that cannot be read or is no list of tasks.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MOST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise OptionError(
            f"cannot read the tasks '{os.fspath(path)}': {getattr(error, 'strerror', 'not a path')}"
        ) from None
    if len(raw) > MOST_FILE_BYTES:
        raise OptionError(f"'{os.fspath(path)}' has more than {MOST_FILE_BYTES:,} bytes, the limit for a file of tasks")
    try:
        return {**built_in(), **_parsed(raw.decode("utf-8"), os.fspath(path))}
    except UnicodeDecodeError:
        raise OptionError(f"'{os.fspath(path)}' is not UTF-8 text") from None


def find(name: str, tasks: Mapping[str, Task] | None = None) -> Task:
    """The task of that name. Raises OptionError, with the names that there are."""
    known = built_in() if tasks is None else tasks
    if name not in known:
        raise OptionError(f"there is no task '{name}': {', '.join(known)}")
    return known[name]


def check_names(task: Task, names: TaskArguments) -> None:
    """Raise OptionError where a task lacks its items or fields, or has no use for them, or they are none to be used."""
    for kind, need, given in (("items", task.items, names.items), ("fields", task.fields, names.fields)):
        if need == "required" and not given:
            raise OptionError(f"this task needs {kind}, as in --{kind} a,b,c")
        if need == "none" and given:
            raise OptionError(f"this task takes no {kind}")
        if len(given) > MOST_NAMES or any(len(word) > MOST_NAME_LENGTH for word in given):
            raise OptionError(f"at most {MOST_NAMES} {kind} of {MOST_NAME_LENGTH} characters are possible")


def split_names(text: str) -> tuple[str, ...]:
    """Names as people list them, each once: ``bottle, can`` or ``瓶子、罐子``. Raises OptionError if there is none."""
    names = tuple(dict.fromkeys(part.strip() for part in _SPLIT.split(text) if part.strip()))
    if not names:
        raise OptionError("the list of names is empty")
    return names


def language_of(*texts: str) -> Language:
    """Chinese if any of the texts has a Chinese character, else English."""
    return "zh" if any(_CHINESE.search(text) for text in texts) else "en"


def _listed(names: Sequence[str], language: Language) -> str:
    return ("、" if language == "zh" else ", ").join(names)


def _filled(text: str, items: str, names: TaskArguments) -> str:
    language = language_of(text)
    form = json.dumps(dict.fromkeys(names.fields, ""), ensure_ascii=False)
    known = {"{items}": items, "{fields}": _listed(names.fields, language), "{fields:json}": form}
    return re.sub(r"\{(?:items|fields(?::json)?)\}", lambda found: known[found[0]], text)


def _expanded(schema: object, names: Mapping[str, tuple[str, ...]]) -> object:
    """The schema with each placeholder replaced by the names given; where none are, any name may stand there."""
    if isinstance(schema, list):
        return [name for part in schema for name in _names_or(part, names)]
    if not isinstance(schema, dict):
        return schema
    properties = schema.get("properties")
    named = properties if isinstance(properties, dict) else {}
    open_forms = [part for key, part in named.items() if key in names and not names[key]]
    result = {key: _expanded(part, names) for key, part in schema.items() if key not in names}
    for placeholder in names:
        if placeholder in schema:
            result |= {name: _expanded(schema[placeholder], names) for name in names[placeholder]}
    if open_forms:
        result["additionalProperties"] = _expanded(open_forms[0], names)
    return result


def _names_or(part: object, names: Mapping[str, tuple[str, ...]]) -> Sequence[object]:
    if isinstance(part, str) and part in names:
        return names[part]
    return (_expanded(part, names),)


def _parsed(text: str, name: str) -> Mapping[str, Task]:
    try:
        tasks = msgspec.convert(tomllib.loads(text), dict[str, Task])
        for task in tasks.values():
            if not task.prompt or not all([*task.prompt.values(), *task.steps.values(), *task.anything.values()]):
                raise ValueError("a task needs a prompt, and no text may be empty")
            if task.image_tokens and not 1 <= task.image_tokens[0] <= task.image_tokens[1] <= MOST_IMAGE_TOKENS:
                raise ValueError(f"image_tokens must be two numbers from 1 to {MOST_IMAGE_TOKENS}, the least first")
            task.form(TaskArguments())
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError, RecursionError) as error:
        raise OptionError(f"'{name}' is no file of tasks: {' '.join(str(error).split())}") from None
    return tasks
