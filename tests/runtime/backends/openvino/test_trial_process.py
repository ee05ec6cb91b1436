"""A trial in a process: whatever happens there is an error with a reason here."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest

from vlrun.backends.openvino import trial_process
from vlrun.backends.openvino.hints import Hints
from vlrun.backends.openvino.trial import CHECK_VALUES, Workload
from vlrun.backends.openvino.trial_process import Deadline, TrialFailed, TrialProcess
from vlrun.embedded import FOLDER

WORKLOAD = Workload(8, 2, 4)
LOADED = "import sys; print('{}', flush=True); sys.stdin.readline(); "


def start(code: str, seconds: float = 60) -> TrialProcess:
    return TrialProcess(Path("model"), Hints(), Deadline(seconds), (sys.executable, "-c", code))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", r"crashed \(SIGSEGV\)"),
        (LOADED + "import os; os.kill(os.getpid(), 11)", r"crashed \(SIGSEGV\)"),
        (LOADED + "import os; os.kill(os.getpid(), 9)", r"crashed \(SIGKILL\)"),
        (LOADED + "sys.exit(3)", "ended with exit code 3"),
        (LOADED + "import os; os.close(1); sys.stdin.read()", "closed its output"),
        ("""print('{"error": "CPU refuses the model"}')""", "^CPU refuses the model$"),
        (LOADED + "print('no JSON')", "gave no valid reply"),
    ],
)
def test_every_end_has_a_reason(code: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a SIGSEGV in the plugin that ended ``vlrun tune``."""
    monkeypatch.setattr(trial_process, "END_SECONDS", 0.2 if "close(1)" in code else 30)
    with pytest.raises(TrialFailed, match=reason), closing(start(code)) as trial:
        trial.measure(WORKLOAD)


def test_a_process_that_hangs_is_given_up() -> None:
    with pytest.raises(TrialFailed, match="took too long"):
        start("import time; time.sleep(600)", seconds=0.2)


@pytest.mark.slow
def test_a_model_is_measured_and_its_outputs_are_reproducible() -> None:
    with closing(TrialProcess(FOLDER, Hints(), Deadline(300))) as trial:
        first, again = trial.check(), trial.check()
        assert first == again
        assert first.finite
        assert CHECK_VALUES // 2 <= len(first.logits) <= 2 * CHECK_VALUES
        seconds = trial.measure(WORKLOAD)
        assert min(seconds.prefill, seconds.decode, seconds.vision) > 0
