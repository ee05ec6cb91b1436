"""The kiosk's configuration: what the page gets, and one clear sentence for each mistake."""

from __future__ import annotations

import io
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlrun.errors import OptionError
from vlrun.server.kiosk_config import DEFAULT, MAX_LOGO_BYTES, MAX_QUESTIONS, KioskConfig, read_kiosk
from vlrun.tasks.definition import Task, built_in_tasks, load_tasks

TASKS = built_in_tasks()


def configured(folder: Path, text: str) -> dict[str, Any]:
    file = folder / "kiosk.toml"
    file.write_text(text, encoding="utf-8")
    config: dict[str, Any] = json.loads(read_kiosk(file, TASKS).config)
    return config


def test_the_default_has_questions_in_both_languages() -> None:
    config = json.loads(read_kiosk(None, TASKS).config)
    assert (config["idle_seconds"], config["language"], config["theme"]) == (60, "auto", "auto")
    assert config["free_text"] is True
    assert config["logo"] is None
    assert len(config["questions"]) >= 3
    for question in config["questions"]:
        assert set(question["label"]) == {"en", "zh"}


def test_the_default_file_explains_every_key() -> None:
    text = DEFAULT.read_text(encoding="utf-8")
    for key in (*KioskConfig.__struct_fields__, "label", "question", "task", "items", "fields"):
        assert key in text
    assert set(tomllib.loads(text)) | {"logo"} == set(KioskConfig.__struct_fields__)


def test_a_file_replaces_what_it_names(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        """
        title = "Shelf"
        idle_seconds = 30
        free_text = false
        [[questions]]
        label.zh = "瓶子"
        task = "count"
        items = ["bottle", "can"]
        question = "Look twice."
        """,
    )
    assert (config["title"], config["idle_seconds"], config["free_text"]) == ("Shelf", 30, False)
    assert config["theme"] == "auto"
    assert config["questions"] == [
        {"label": {"zh": "瓶子"}, "question": "Look twice.", "task": "count", "items": ["bottle", "can"]}
    ]
    assert configured(tmp_path, "questions = []")["questions"] == []
    assert configured(tmp_path, "\ufefftheme = 'dark'")["theme"] == "dark"


MISTAKES = {
    "titel = 'x'": "unknown field `titel`",
    "title = ''": "title",
    "title = {}": "a text needs en or zh",
    "title = {fr = 'x'}": "fr",
    "idle_seconds = 4": "idle_seconds",
    "idle_seconds = 'x'": "idle_seconds",
    "language = 'fr'": "fr",
    "theme = 1": "theme",
    "free_text = 1": "free_text",
    "questions = 1": "questions",
    "[[questions]]": "label",
    "[[questions]]\nlabel = 'x'\ntask = 'zebra'": "question 1: there is no task 'zebra'",
    "[[questions]]\nlabel = 'x'\nitems = ['y']": "question 1 has items or fields, but no task",
    "[[questions]]\nlabel = 'x'\ntask = 'locate'": "question 1: this task needs items",
    "[[questions]]\nlabel = 'x'\ntask = 'ocr'\nfields = ['y']": "question 1: this task takes no fields",
    "[[questions]]\nlabel = 'x'\n" * (MAX_QUESTIONS + 1): "questions",
    "title": "is not a TOML file",
    "a = 1\na = 2": "is not a TOML file",
    "x = " + "[" * 9999: "is not a TOML file",
    "logo = 'nothing.png'": "cannot read the logo",
    "logo = 'kiosk.toml'": "must be an SVG, PNG, JPEG or WebP file",
    'logo = "a\\u0000.png"': "it is not a path",
}


@pytest.mark.parametrize("text", MISTAKES, ids=[repr(text[:40]) for text in MISTAKES])
def test_a_mistake_is_named_in_one_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(OptionError) as caught:
        configured(tmp_path, text)
    message = str(caught.value)
    assert MISTAKES[text] in message
    assert "kiosk.toml" in message
    assert "\n" not in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"title = '\xff'")
    for name in ("missing.toml", "latin.toml", "."):
        with pytest.raises(OptionError, match="cannot read the kiosk configuration"):
            read_kiosk(tmp_path / name, TASKS)


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("b.JPG", "JPEG"), ("c.webp", "WEBP")])
def test_a_logo_lies_beside_the_file(tmp_path: Path, name: str, kind: str) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / name, kind)
    (tmp_path / "kiosk.toml").write_text(f"logo = '{name}'")
    kiosk = read_kiosk(tmp_path / "kiosk.toml", TASKS)
    assert kiosk.logo == (tmp_path / name).read_bytes()
    assert kiosk.logo_type == f"image/{kind.lower()}".encode()
    assert json.loads(kiosk.config)["logo"] == "/kiosk/logo"


def test_a_logo_is_what_its_name_says_and_small(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 20)).save(file, "PNG")
    (tmp_path / "wrong.jpg").write_bytes(file.getvalue())
    (tmp_path / "text.svg").write_text("hello")
    (tmp_path / "large.svg").write_text("<svg/>" + " " * MAX_LOGO_BYTES)
    Image.new("1", (3000, 2000)).save(tmp_path / "wide.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("wrong.jpg", "text.svg", "large.svg", "wide.png", "folder.png"):
        with pytest.raises(OptionError, match=f"the logo .*{name}"):
            configured(tmp_path, f"logo = '{name}'")
    (tmp_path / "good.svg").write_text("<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "kiosk.toml").write_text("logo = 'good.svg'")
    assert read_kiosk(tmp_path / "kiosk.toml", TASKS).logo_type == b"image/svg+xml"


def test_the_default_works_with_tasks_of_the_operator(tmp_path: Path) -> None:
    """A file of tasks may replace a built-in one by one that needs items."""
    (tmp_path / "tasks.toml").write_text('[count]\nabout = "x"\nprompt.en = "x {items}"\nitems = "required"\n')
    tasks = load_tasks(tmp_path / "tasks.toml")
    named = {question.get("task") for question in json.loads(read_kiosk(None, tasks).config)["questions"]}
    assert "count" not in named
    assert "ocr" in named
    only = {"x": Task("x", {"en": "x"})}
    assert {question.get("task") for question in json.loads(read_kiosk(None, only).config)["questions"]} == {None}
