"""vlrun, transformers, openvino-genai and optimum-intel answer alike, on a folder that vlrun exported for all of them.

Also the other way round: vlrun runs what optimum-intel exports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the workbench packages")

import torch

import vlrun
from tests.export.test_optimum_layout import EXACT, assert_equal, probe
from tests.exports import export, made_once
from tests.small_models import build_checkpoint, build_tokenizer
from vlrun import Options, Turn
from vlrun.embedded import FOLDER
from vlrun.layout import OPTIMUM
from vlrun.types.answer import last_of

pytestmark = pytest.mark.slow

EXACT_PROPERTIES = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}
QUESTION = "How many red circles are there?"
TOKENS = 10
ROWS, COLUMNS = np.mgrid[0:160, 0:224]
IMAGE = np.stack([ROWS, COLUMNS, (ROWS * COLUMNS) % 256], -1).astype(np.uint8)
"""Of a size that no preprocessing changes."""
Answers = tuple[str, str]
"""The greedy answers with the image, and without it."""


LARGER: Mapping[str, Mapping[str, object]] = {
    "text_config": {"hidden_size": 80, "num_attention_heads": 4, "num_key_value_heads": 1},
    "vision_config": {"hidden_size": 144, "num_heads": 2, "intermediate_size": 76, "out_hidden_size": 80},
}
"""What the larger models have beside more layers and a head of their own: in 4B, the heads together are wider than the
hidden states; in 8B, the vision encoder has heads of 72 and an intermediate size that is no multiple of 32."""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Restore the checkpoint of the embedded model."""
    from training.checkpoint import save_checkpoint
    from training.restore import load_checkpoint

    folder: Path = tmp_path_factory.mktemp("embedded") / "checkpoint"
    save_checkpoint(*load_checkpoint(FOLDER), folder)
    return folder


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a random checkpoint in the shapes of the larger models."""
    words = build_tokenizer().get_vocab_size()  # no padding rows, which the peers would sample
    sizes = {**LARGER, "text_config": {**LARGER["text_config"], "vocab_size": words}}
    folder: Path = tmp_path_factory.mktemp("larger") / "checkpoint"
    return build_checkpoint(folder, tied=False, deepstack=(0, 2, 4), seed=5, sizes=sizes)


@pytest.fixture(scope="module", params=["larger", "embedded"])
def checkpoint(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def export_once(checkpoint: Path) -> Path:
    """Export to optimum-intel's layout and compare with transformers."""
    return made_once(checkpoint.parent / "optimum", lambda out: export(checkpoint, out, OPTIMUM, check=True))


@pytest.fixture(scope="module")
def folder(checkpoint: Path) -> Path:
    return export_once(checkpoint)


def test_the_shapes_of_the_larger_models_in_both_layouts(larger: Path, tmp_path: Path) -> None:
    assert_equal(probe(export_once(larger)), probe(export(larger, tmp_path / "vlrun")))


@pytest.fixture(scope="module")
def answers(folder: Path) -> Answers:
    options = Options(temperature=0, presence_penalty=0, max_tokens=TOKENS)
    contents = ((vlrun.open_image(IMAGE), QUESTION), (QUESTION,))
    with vlrun.load(folder, hints=EXACT) as vlm:
        with_image, without = (last_of(vlm.chat((Turn("user", content),), options)).text for content in contents)
    return complete(with_image), complete(without)


def complete(text: str) -> str:
    """Return a text without the bytes of a character that the limit on tokens has cut; vlrun leaves them out."""
    return text.rstrip("\ufffd")


def test_openvino_genai_answers_alike(folder: Path, answers: Answers) -> None:
    genai = pytest.importorskip("openvino_genai", reason="needs openvino-genai")
    import openvino as ov

    pipeline = genai.VLMPipeline(str(folder), "CPU", **EXACT_PROPERTIES)
    found = [
        complete(pipeline.generate(QUESTION, images=images, max_new_tokens=TOKENS, do_sample=False).texts[0])
        for images in ([ov.Tensor(IMAGE[None])], [])
    ]
    assert tuple(found) == answers


def test_optimum_intel_answers_alike(folder: Path, answers: Answers) -> None:
    intel = pytest.importorskip("optimum.intel", reason="needs optimum-intel")
    model = intel.OVModelForVisualCausalLM.from_pretrained(folder, trust_remote_code=False, ov_config=EXACT_PROPERTIES)
    assert generated(model, folder) == answers


def test_transformers_answers_alike(checkpoint: Path, folder: Path, answers: Answers) -> None:
    from transformers import Qwen3VLForConditionalGeneration

    model = Qwen3VLForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    assert generated(model, folder) == answers


def generated(model: Any, folder: Path) -> Answers:
    """Return the answers of a model with transformers' interface."""
    from transformers import AutoTokenizer, Qwen2VLImageProcessor

    tokenizer, found = AutoTokenizer.from_pretrained(folder), []
    processor = Qwen2VLImageProcessor.from_pretrained(folder)
    for with_image in (True, False):
        content: list[dict[str, str]] = [{"type": "image"}] if with_image else []
        turns = [{"role": "user", "content": [*content, {"type": "text", "text": QUESTION}]}]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        inputs: dict[str, Any] = {}
        if with_image:
            inputs = dict(processor(images=[IMAGE], return_tensors="pt"))
            count = int(inputs["image_grid_thw"].prod()) // 4
            prompt = prompt.replace("<|image_pad|>", "<|image_pad|>" * count)
        ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
        output = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False, **inputs
        )
        found.append(complete(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)))
    return found[0], found[1]


def export_of_now(checkpoint: Path, out: Path) -> None:
    from optimum.exporters.openvino import main_export

    main_export(str(checkpoint), output=out, task="image-text-to-text")


def export_of_2_1(checkpoint: Path, out: Path) -> None:
    """Export as optimum-intel before 2.2, which traced transformers' own way of adding DeepStack rows."""
    from optimum.exporters.openvino import model_patcher
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextModel

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_patcher, "_deepstack_process_patched", Qwen3VLTextModel._deepstack_process)
        export_of_now(checkpoint, out)


@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.parametrize("run_export", [export_of_now, export_of_2_1])
def test_exports_of_optimum_intel_give_the_results_of_our_own(
    tied_checkpoint: Path, tied_model: Path, tmp_path: Path, run_export: Callable[[Path, Path], None]
) -> None:
    """Guards the forms of graphs that ready-made repositories hold."""
    pytest.importorskip("optimum.intel", reason="needs optimum-intel")
    run_export(tied_checkpoint, tmp_path / "out")
    assert_equal(probe(tmp_path / "out"), probe(tied_model))
