"""The model family: its parts are consistent, and other packages do not mention them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vlrun import manifest as manifests
from vlrun.embedded import FOLDER
from vlrun.media.transform import ImageTransform
from vlrun.models.family import ModelFamily
from vlrun.models.registry import family_of
from vlrun.prompt.tool_calls import find_tool_calls
from vlrun.types.mark import Mark
from vlrun.types.turn import ToolCall

RUNTIME = Path(manifests.__file__).parent
SPECIFIC = re.compile(r"(?i:qwen)|<\|\w|</?tool_call>|</?think>|bbox_2d|point_2d|Picture \{")
ALLOWED = {
    "__init__.py": ("Run Qwen3-VL on", "qwen3-vl-2b-int8"),  # the product's summary
    "cli/commands.py": (
        "Ask Qwen3-VL about",
        "pull qwen3-vl-2b",
        "-m qwen3-vl-2b",
    ),  # the summary and the examples in --help
    "cli/pull.py": ("pull qwen3-vl-2b", "pull Qwen/Qwen3-VL-4B-Instruct"),  # the examples in --help
    "manifest.py": ('FAMILY = "qwen3-vl"',),  # the family's name in the manifest
    "bench/workload.py": ("visual tokens of Qwen3-VL",),
    "vision/patches.py": ("Qwen2VLImageProcessor",),  # the reference implementation
    "tasks/tasks.toml": ("Prompts follow Qwen's cookbooks", "bbox_2d"),  # prompts are data for one family
}


@pytest.fixture
def family() -> ModelFamily:
    return family_of(manifests.read(FOLDER))


def family_specific_lines() -> dict[str, list[str]]:
    """Return the lines outside ``models/`` that mention something specific to a family, by file."""
    found: dict[str, list[str]] = {}
    for path in [*RUNTIME.rglob("*.py"), *RUNTIME.rglob("*.toml")]:
        name = path.relative_to(RUNTIME).as_posix()
        if not name.startswith(("models/", "embedded/")):
            lines = [line for line in path.read_text("utf-8").splitlines() if SPECIFIC.search(line)]
            found |= {name: lines} if lines else {}
    return found


def test_no_other_package_mentions_a_token_or_format() -> None:
    """A second family must not need changes outside ``models/`` and the export."""
    unexpected = {
        name: lines
        for name, found in family_specific_lines().items()
        if (lines := [line for line in found if not any(text in line for text in ALLOWED.get(name, ()))])
    }
    assert not unexpected


def test_the_allowed_exceptions_exist() -> None:
    """Guards against entries in ``ALLOWED`` that are no longer needed."""
    found = family_specific_lines()
    stale = [
        (name, text) for name, texts in ALLOWED.items() for text in texts if text not in "\n".join(found.get(name, []))
    ]
    assert not stale


def test_written_tool_calls_are_parsed_back(family: ModelFamily) -> None:
    """Grammar and parser use different fields of one format."""
    notation = family.tool_calls
    calls = [ToolCall("now", "{}"), ToolCall("price", '{"of": "</tool_call>", "n": 1.50}')]
    text = notation.separator.join(
        f"{notation.begin}{notation.before_name}{call.name}{notation.before_arguments}{call.arguments}"
        f"{notation.after_arguments}{notation.end}"
        for call in calls
    )
    assert list(find_tool_calls(text, notation)) == calls


def test_control_tokens_are_tokens_of_the_model(family: ModelFamily) -> None:
    """A name that the tokenizer does not know would not be forbidden in answers."""
    names = {family.tool_calls.begin, family.tool_calls.end, family.reasoning.begin, family.reasoning.end}
    tokenizer = (FOLDER / manifests.TOKENIZER).read_text("utf-8")
    assert all(f'"content": "{name}"' in tokenizer for name in names)


def test_written_boxes_are_parsed_back(family: ModelFamily) -> None:
    """Boxes merged from tiles are written again; they must not move by more than a thousandth."""
    size = (640, 480)
    mark = Mark("red can", (64.0, 48.0, 320.0, 240.0), None)
    assert family.find_marks(str(family.format_box(mark, size)), size, ImageTransform(size)) == (mark,)


def test_budgets_grow_with_the_detail(family: ModelFamily) -> None:
    assert [family.image_token_budget(detail) for detail in ("low", "auto", "high")] == [256, 1280, 2560]


def test_votes_are_sampled(family: ModelFamily) -> None:
    """Guards against greedy votes, which are all equal."""
    assert family.voting.temperature > 0
