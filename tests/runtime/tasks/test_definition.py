"""Task definitions: prompts in two languages, schemas, and task files of users."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlrun.errors import OptionError
from vlrun.tasks.definition import (
    NO_ARGUMENTS,
    TaskArguments,
    built_in_tasks,
    check_arguments,
    find_task,
    language_of,
    load_tasks,
    split_names,
)

ARGUMENTS = {
    "count": TaskArguments(items=("bottle", "can")),
    "locate": TaskArguments(items=("bottle",)),
    "fields": TaskArguments(fields=("number", "total")),
}


@pytest.mark.parametrize("name", built_in_tasks())
def test_built_in_tasks_have_prompts_in_both_languages_and_a_json_schema(name: str) -> None:
    task, arguments = find_task(name), ARGUMENTS.get(name, NO_ARGUMENTS)
    check_arguments(task, arguments)
    english, chinese = task.question("en", arguments), task.question("zh", arguments)
    assert language_of(english) == "en"
    assert language_of(chinese) == "zh"
    for text in (english, chinese, task.steps_question("en", arguments, "Think.")):
        assert "{items}" not in text
        assert "{fields" not in text
    assert task.schema is None or json.dumps(task.answer_schema(arguments))


def test_items_fill_the_prompt_and_the_schema() -> None:
    """The schema requires each item; without items it allows any name."""
    count, arguments = find_task("count"), TaskArguments(items=("bottle", "red can"))
    assert count.question("en", arguments).startswith("Count bottle, red can in the image.")
    assert count.question("zh", TaskArguments(items=("瓶子", "罐子"))).startswith("数一数图中的瓶子、罐子。")
    schema = count.answer_schema(arguments)
    assert schema is not None
    items = schema["properties"]["items"]  # type: ignore[index]
    assert items["required"] == ["bottle", "red can"]
    assert set(items["properties"]) == {"bottle", "red can"}
    assert items["additionalProperties"] is False
    unrestricted = count.answer_schema(NO_ARGUMENTS)
    assert unrestricted is not None
    assert unrestricted["properties"]["items"]["additionalProperties"] == {  # type: ignore[index]
        "type": "integer",
        "minimum": 0,
        "maximum": 99999,
    }


def test_a_question_is_added_below_the_prompt() -> None:
    assert find_task("ocr").question("en", NO_ARGUMENTS, "Only the sign.").endswith("\nOnly the sign.")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("locate", NO_ARGUMENTS, "needs items"),
        ("fields", NO_ARGUMENTS, "needs fields"),
        ("ocr", TaskArguments(items=("a",)), "takes no items"),
        ("count", TaskArguments(items=tuple(map(str, range(101)))), "at most 100 items"),
        ("count", TaskArguments(items=("x" * 101,)), "100 characters"),
    ],
)
def test_wrong_arguments_are_refused(name: str, arguments: TaskArguments, message: str) -> None:
    """Guards against arguments that are silently ignored."""
    with pytest.raises(OptionError, match=message):
        check_arguments(find_task(name), arguments)


def test_names_are_split_at_english_and_chinese_commas() -> None:
    """Duplicates are removed: a schema must not name a property twice."""
    assert split_names(" bottle, can ,,bottle") == ("bottle", "can")
    assert split_names("瓶子、罐子，袋子") == ("瓶子", "罐子", "袋子")
    with pytest.raises(OptionError, match="empty"):
        split_names(" , ")


def test_a_file_adds_and_replaces_tasks(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[plates]\nabout = "number plates"\nprompt.en = "Read the number plate."\nschema = \'{"type": "string"}\'\n'
        '[ocr]\nabout = "mine"\nprompt.zh = "读。"\n',
        encoding="utf-8",
    )
    tasks = load_tasks(path)
    assert find_task("plates", tasks).answer_schema(NO_ARGUMENTS) == {"type": "string"}
    assert find_task("plates", tasks).question("zh", NO_ARGUMENTS) == "Read the number plate."
    assert find_task("ocr", tasks).question("en", NO_ARGUMENTS) == "读。"
    assert find_task("count", tasks) == find_task("count")


def test_the_deprecated_pictures_key_still_works(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[x]\nabout = 'a'\nprompt.en = 'b'\npictures = 3\n")
    assert load_tasks(path)["x"].images == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[x\n", "not a task file"),
        (b"[x]\nabout = 'a'\n", "prompt"),
        (b"[x]\nabout = 'a'\nprompt = {}\n", "needs a prompt"),
        (b"[x]\nabout = 'a'\nprompt.en = 'b'\nspeed = 3\n", "speed"),
        (b"[x]\nabout = 'a'\nprompt.fr = 'b'\n", "not a task file"),
        (b"[x]\nabout = 'a'\nprompt.en = 'b'\nschema = '{'\n", "not a task file"),
        (b"[x]\nabout = 'a'\nprompt.en = 'b'\nimage_tokens = [9, 3]\n", "image_tokens"),
        (b"[x]\nabout = 'a'\nprompt.en = ''\n", "no text may be empty"),
        (b"[x]\nabout = 'a'\nprompt.en = 'b'\nsteps.en = ''\n", "may be empty"),
        (b"[x]\nabout = 'a'\nprompt.en = 'b'\nschema = '[]'\n", "not a task file"),
        (b"[x]\nabout = 'a'\nprompt.en = 'b'\nimages = 2\npictures = 2\n", "pictures"),
        (b"\xff", "UTF-8"),
        (b"#" * (1 << 20) + b"##", "limit"),
    ],
)
def test_an_invalid_task_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(OptionError, match=message):
        load_tasks(path)


def test_schemas_with_invalid_properties_are_left_to_the_schema_check(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[x]\nabout = 'a'\nprompt.en = 'b'\nschema = '{\"properties\": []}'\n")
    assert load_tasks(path)["x"].answer_schema(NO_ARGUMENTS) == {"properties": []}


def test_unknown_tasks_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="there is no task 'cuont'; the tasks are describe, count"):
        find_task("cuont")
    with pytest.raises(OptionError, match="cannot read"):
        load_tasks(tmp_path / "none.toml")
