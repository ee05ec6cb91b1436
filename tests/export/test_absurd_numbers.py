"""Absurd values in any field of any configuration file: one sentence, or a manifest that the runtime accepts."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.export.reading import read_checkpoint
from tests.small_models import build_checkpoint
from vlrun.errors import CheckpointError
from vlrun_export.checkpoint import Checkpoint, open_checkpoint

ABSURD: tuple[Any, ...] = (math.nan, -1, 0, 0.5, 10**18, 2**31, "7", None, {}, [-1])
FILES = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("absurd") / "checkpoint", tied=True, deepstack=(1, 3), seed=7)


def paths(value: object) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value of a JSON value, objects and lists included."""
    yield ()
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from ((key, *path) for path in paths(part))


def replaced(value: Any, path: tuple[Any, ...], new: object) -> Any:
    changed = copy.deepcopy(value)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = new
    return changed


@pytest.mark.parametrize("name", FILES)
def test_every_value_of_a_file_may_be_absurd(checkpoint: Path, name: str) -> None:
    """Guards exports that were 'complete' with max_position 0, and a number of layers that ate the memory."""
    original = (checkpoint / name).read_text()
    whole = json.loads(original)
    opened = None if name == "config.json" else open_checkpoint(checkpoint)
    refusals = []
    try:
        for path, value in itertools.product([path for path in paths(whole) if path], ABSURD):
            (checkpoint / name).write_text(json.dumps(replaced(whole, path, value)))
            refusal = refusal_of(checkpoint, opened, f"{name}: {path} = {value}")
            assert "\n" not in refusal
            assert len(refusal) < 500
            refusals.append(refusal)
    finally:
        (checkpoint / name).write_text(original)
    assert "" in refusals


def refusal_of(checkpoint: Path, opened: Checkpoint | None, case: str) -> str:
    """Return the sentence that refuses a checkpoint, or an empty text."""
    try:
        read_checkpoint(checkpoint, opened)
    except CheckpointError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(case) from error
    return ""
