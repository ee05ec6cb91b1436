"""``/model`` in a chat leaves a model that can answer, whatever happens."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from tests.scripted_vlm import INSTRUCT_TEMPLATE, ScriptedVLM
from vlrun.cli.model_choice import EMBEDDED, ModelChoice
from vlrun.cli.progress_line import ProgressLine
from vlrun.cli.repl import Repl
from vlrun.embedded import FOLDER
from vlrun.errors import DeviceError
from vlrun.types.options import Options


class FailingVLM(ScriptedVLM):
    """Fails in the background, where models load."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error
        self.closed = False

    def wait(self) -> None:
        raise self._error

    def close(self) -> None:
        self.closed = True


@dataclass(frozen=True)
class FailingLoading:
    """Options of the embedded model, which loads, and of others, which do not."""

    error: BaseException
    in_background: bool
    model: ModelChoice = field(default_factory=lambda: ModelChoice(None, EMBEDDED))
    hints: str = ""
    failed: list[FailingVLM] = field(default_factory=list)

    def load(self, _: ProgressLine) -> ScriptedVLM:
        if self.model.folder is None:
            return ScriptedVLM(INSTRUCT_TEMPLATE)
        if not self.in_background:
            raise self.error
        self.failed.append(FailingVLM(self.error))
        return self.failed[-1]


@pytest.mark.parametrize("in_background", [False, True])
@pytest.mark.parametrize(
    ("error", "message"), [(KeyboardInterrupt(), "stopped"), (DeviceError("out of memory"), "out of memory")]
)
def test_a_model_that_does_not_load_leaves_the_former_one(
    error: BaseException, message: str, in_background: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The chat went on without any model, or with the broken one: each question was answered with its error."""
    options = FailingLoading(error, in_background)
    repl = Repl(cast(Any, options), Options(), ProgressLine(wanted=False), "Be brief.")
    repl.run("Hi")
    turns = repl._conversation.turns
    capsys.readouterr()
    repl.run(f"/model '{FOLDER}'")
    repl.run("/model")
    assert capsys.readouterr().err == f"vlrun: {message}\nvlrun: vlrun-tiny (embedded)\n"
    assert [vlm.closed for vlm in options.failed] == [True] * in_background
    assert repl._conversation.turns == turns  # with their tokens
    repl.run("How many?")
    assert len(repl._conversation.turns) == len(turns) + 2
    repl.close()


@pytest.mark.parametrize("command", ["/image -", "/save -", "/load -"])
def test_a_chat_has_no_image_or_file_on_its_streams(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`/image -` waited for an image where the questions come from, and `/save -` wrote a file of that name."""
    monkeypatch.chdir(tmp_path)
    options = FailingLoading(KeyboardInterrupt(), in_background=False)
    repl = Repl(cast(Any, options), Options(), ProgressLine(wanted=False))
    repl.run(command)
    assert capsys.readouterr().err == "vlrun: - is no file in a chat, whose stdin and stdout have the conversation\n"
    assert list(tmp_path.iterdir()) == []
    repl.close()
