"""Whole exports of checkpoints as people have them: the result answers as transformers does, or is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.published import CASES, needs_published
from tests.small_models import build_checkpoint
from vlrun import Hints, Options, Turn, load, open_image
from vlrun.errors import CheckFailed
from vlrun_export.export import export_checkpoint

pytestmark = pytest.mark.slow

EXACT = Hints(decoder_precision="f32", vision_precision="f32", kv_precision="f32", group_size=0)

# What transformers 5.24.0 makes of the checkpoint: prompt and first tokens of the greedy answer.
QUESTION = "How many red bottles are on the shelf?"
PROMPT_IDS = (
    392, 312, 198, 400, 403, 403, 403, 403, 403, 403, 401, 366, 378, 371, 285, 282, 359, 260, 361, 30, 393, 198, 392,
    64, 307, 383, 198,
)  # fmt: skip
ANSWER = "Nn\x0e"


@needs_published
def test_a_checkpoint_of_transformers_5_answers_as_there(tmp_path: Path) -> None:
    """Guards fine-tunes saved by transformers 5: they have processor_config.json, but no preprocessor_config.json."""
    checkpoint = CASES / "checkpoints" / "transformers5"
    export_checkpoint(checkpoint, tmp_path / "out", weights="fp32", vision="fp32", check=False)
    rows, columns = np.mgrid[0:70, 0:100]
    pixels = np.stack([rows * 3, columns * 2, (rows * columns) % 256], -1).clip(0, 255).astype(np.uint8)
    with load(tmp_path / "out", hints=EXACT) as vlm:
        image = open_image(pixels)
        assert vlm.build_prompt((Turn("user", (image, QUESTION)),)).prompt.ids == PROMPT_IDS
        answer = vlm.ask(image, QUESTION, Options(temperature=0, presence_penalty=0, max_tokens=3))
        assert answer.text == ANSWER
        assert vlm.manifest.preprocessing.max_pixels == 1048576


def test_a_folder_that_cannot_answer_is_not_kept(tmp_path: Path) -> None:
    """Guards an export that was 'complete' and failed at the first question."""
    checkpoint = build_checkpoint(tmp_path / "checkpoint", tied=True, deepstack=(1,), seed=8)
    (checkpoint / "chat_template.jinja").write_text("{{ 1 / 0 }}")
    with pytest.raises(CheckFailed, match="the exported model cannot answer: the model's chat template fails"):
        export_checkpoint(checkpoint, tmp_path / "out", weights="fp32", vision="fp32", check=False)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
