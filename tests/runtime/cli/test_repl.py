"""``/model`` in a chat leaves a model that can answer, whatever happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from tests.scripted_vlm import ScriptedVLM
from vlrun.cli.model_choice import EMBEDDED, ModelChoice
from vlrun.cli.progress_line import ProgressLine
from vlrun.cli.repl import Repl
from vlrun.embedded import FOLDER
from vlrun.types.options import Options


@dataclass(frozen=True)
class InterruptedLoading:
    """Options of a model that loads, and of others whose loading the user interrupts."""

    model: ModelChoice
    hints: str = ""

    def load(self, _: ProgressLine) -> ScriptedVLM:
        if self.model.folder is not None:
            raise KeyboardInterrupt
        return ScriptedVLM()


def test_an_interrupted_change_of_the_model_leaves_the_former_one(capsys: pytest.CaptureFixture[str]) -> None:
    """The chat went on without any model, and the next question was an internal error."""
    repl = Repl(cast(Any, InterruptedLoading(ModelChoice(None, EMBEDDED))), Options(), ProgressLine(wanted=False))
    repl.run(f"/model '{FOLDER}'")
    repl.run("/model")
    assert capsys.readouterr().err == "vlrun: stopped\nvlrun: vlrun-tiny (embedded)\n"
    repl.close()
