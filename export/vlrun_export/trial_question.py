"""Opens an exported folder with the runtime and asks it a question, in a child process.

The child has its own memory, which ends with it, and a folder that hangs or crashes the runtime fails the export only.
Besides the question, which has an image, the child renders a conversation with every kind of turn: a chat template may
be fine for one turn and fail at the second.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vlrun import manifest
from vlrun.errors import CheckFailed, OptionError, VlrunError
from vlrun.layout import LAYOUTS, OPENVINO_RUNTIME

if TYPE_CHECKING:
    from vlrun import VLM

TRIAL_SECONDS = 900
"""Limit of the child. Loading and answering takes seconds at 2B, and a few minutes at 8B on a slow disk."""
ANSWER_TOKENS = 8
REFUSED = 3
"""Exit status of the child if the runtime refuses the folder; the message is on standard output."""


def ask_trial_question(folder: Path) -> None:
    """Raise CheckFailed unless the runtime opens the model folder and answers."""
    command = [sys.executable, "-P", "-m", __spec__.name, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TRIAL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise CheckFailed(f"the exported model gave no answer within {TRIAL_SECONDS} s") from None
    if done.returncode == REFUSED:
        raise CheckFailed("the exported model cannot answer", done.stdout.decode("utf-8", "replace"))
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise CheckFailed(f"the exported model crashed the runtime ({name}); is there enough free memory?")
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise CheckFailed("the exported model broke the runtime", last)


def _ask(folder: Path) -> None:
    import vlrun

    hints = vlrun.Hints()
    if LAYOUTS[manifest.read(folder).layout].backend == OPENVINO_RUNTIME:
        # Given hints are not measured on this machine, which is busy with the export.
        hints = vlrun.Hints(device="CPU", vision_precision="f32", group_size=128)
    image = np.linspace(0, 255, 64 * 96 * 3).reshape(64, 96, 3).astype(np.uint8)
    with vlrun.load(folder, hints=hints) as vlm:
        vlm.ask(image, options=vlrun.Options(max_tokens=ANSWER_TOKENS, detail="low"))
        _render_conversations(vlm)


def _render_conversations(vlm: VLM) -> None:
    """Render what only later questions would render. A template may refuse a kind of turn, but must not fail."""
    from vlrun import ToolCall, Turn

    user, answer = Turn("user", ("What is this?",)), Turn("assistant", ("A box.",))
    tool = {
        "type": "function",
        "function": {"name": "price", "description": "The price of a thing", "parameters": {"type": "object"}},
    }
    call = Turn("assistant", ("",), (ToolCall("price", '{"thing": "box"}'),))
    for turns, tools in (
        ((Turn("system", ("Answer briefly.",)), user), ()),
        ((user, answer, user), ()),
        ((user, call, Turn("tool", ("12.50",)), answer, user), (tool,)),
    ):
        with contextlib.suppress(OptionError):
            vlm.build_prompt(turns, tools)


def _main() -> int:
    try:
        _ask(Path(sys.argv[1]))
    except VlrunError as error:
        sys.stdout.buffer.write(str(error).encode("utf-8", "replace"))
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main())
