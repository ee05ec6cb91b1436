"""The trial question finds what would make every question, or only later ones, fail."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.published import CASES, needs_published
from tests.small_models import CHAT_TEMPLATE, build_checkpoint
from vlrun import manifest
from vlrun.errors import CheckFailed
from vlrun_export import trial_question
from vlrun_export.export import export_checkpoint
from vlrun_export.trial_question import ask_trial_question

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial")
    checkpoint = build_checkpoint(folder / "checkpoint", tied=True, deepstack=(1,), seed=8)
    export_checkpoint(checkpoint, folder / "out", weights="fp32", vision="fp32", check=False)
    return folder / "out"


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "model")


def replace(model: Path, name: str, content: str) -> None:
    """Replace a file, as if it had been exported."""
    (model / name).write_text(content)
    described = manifest.read(model)
    files = {**described.files, name: manifest.describe_file(model / name)}
    manifest.write(dataclasses.replace(described, files=files), model)


def template(content: str) -> Callable[[Path], None]:
    return lambda model: replace(model, manifest.CHAT_TEMPLATE, content)


def growing_tokenizer(model: Path) -> None:
    tokenizer = json.loads((model / manifest.TOKENIZER).read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    replace(model, manifest.TOKENIZER, json.dumps(tokenizer))


UNUSABLE: dict[str, Callable[[Path], object]] = {
    "template refuses every question": template("{{ raise_exception('no') }}"),
    "template without images": template(CHAT_TEMPLATE.replace("<|image_pad|>", "")),
    "template fails for tools only": template("{% if tools %}{{ 1 / 0 }}{% endif %}" + CHAT_TEMPLATE),
    "template fails at the second question": template("{{ 1 / (3 - messages | length) }}" + CHAT_TEMPLATE),
    "tokenizer that the runtime does not run": growing_tokenizer,
}


@pytest.mark.parametrize("fault", list(UNUSABLE))
def test_a_folder_that_cannot_answer_is_refused_in_one_sentence(model: Path, fault: str) -> None:
    UNUSABLE[fault](model)
    with pytest.raises(CheckFailed, match="the exported model cannot answer: ") as caught:
        ask_trial_question(model)
    assert "\n" not in str(caught.value)


@needs_published
@pytest.mark.parametrize("name", ["chat_template.generation_tag.jinja", "chat_template.tojson_arguments.jinja"])
def test_template_extensions_of_transformers_pass(model: Path, name: str) -> None:
    template((CASES / "checkpoints" / "overlays" / name).read_text())(model)
    ask_trial_question(model)


def test_a_template_that_refuses_some_conversations_passes(model: Path) -> None:
    """Templates may refuse tools or system turns."""
    template("{% if tools or messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHAT_TEMPLATE)(
        model
    )
    ask_trial_question(model)


def child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the child run ``code``."""
    run = subprocess.run
    monkeypatch.setattr(trial_question, "TRIAL_SECONDS", 60)
    monkeypatch.setattr(subprocess, "run", lambda command, **options: run([sys.executable, "-c", code], **options))


def test_a_crash_of_the_runtime_fails_the_export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(CheckFailed, match=r"crashed the runtime \(SIGSEGV"):
        ask_trial_question(tmp_path)


def test_an_error_inside_the_runtime_fails_the_export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child(monkeypatch, "raise ZeroDivisionError('inside')")
    with pytest.raises(CheckFailed, match="broke the runtime: ZeroDivisionError: inside"):
        ask_trial_question(tmp_path)


def test_a_folder_that_hangs_the_runtime_fails_the_export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child(monkeypatch, "import time; time.sleep(600)")
    monkeypatch.setattr(trial_question, "TRIAL_SECONDS", 0.2)
    with pytest.raises(CheckFailed, match="gave no answer within"):
        ask_trial_question(tmp_path)
