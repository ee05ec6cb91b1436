"""The self-check of an export: the deviation from transformers on a short prompt with an image.

Compares the vision encoder's embeddings, each DeepStack level, and the logits of every token of the prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vlrun import manifest
from vlrun.errors import CheckFailed
from vlrun.layout import ONNX, OPTIMUM
from vlrun.manifest import CheckResult, Manifest
from vlrun_export import optimum_model
from vlrun_export.checkpoint import Checkpoint
from vlrun_export.exported_model import run_decoder, run_vision
from vlrun_export.families.qwen3_vl.check_prompt import FloatArray, make_check_prompt
from vlrun_export.families.qwen3_vl.reference import run_reference
from vlrun_export.progress import Progress, no_progress


@dataclass(frozen=True)
class Limits:
    """Maximum error relative to the reference's scale, maximum mean KL divergence (nats), minimum top-1 agreement."""

    error: float
    divergence: float
    agreement: float


AGREEMENT = "logits, top-1 agreement"
"""The only metric that must be large."""

LIMITS = {
    "fp32": Limits(error=1e-4, divergence=1e-5, agreement=0.99),
    "fp16": Limits(error=1e-2, divergence=1e-3, agreement=0.97),
    "int8": Limits(error=0.1, divergence=0.05, agreement=0.8),
    "int4": Limits(error=0.8, divergence=3.0, agreement=0.1),
}
"""Limits by precision.

INT8 and INT4 have wide limits because random weights, which the tests export, lose far more than trained ones: INT4 has
an error of 1.2 and an agreement of 0.28 with random weights of the 2B shapes, and 0.06 and 0.91 with the trained tiny
model. A wrong graph agrees nowhere.
"""


def check_folder(
    checkpoint: Checkpoint, folder: Path, described: Manifest, progress: Progress = no_progress
) -> tuple[CheckResult, ...]:
    """Compare the models in ``folder`` with transformers on the checkpoint's weights. Return a result per metric."""
    prompt = make_check_prompt(folder, described.vision, described.tokens, described.preprocessing)
    step = "self-check: running transformers"
    progress(step)
    reference = run_reference(checkpoint, prompt.ids, prompt.patches, prompt.grid, partial(progress, step))
    progress("self-check: running the exported model")
    if described.layout == OPTIMUM.name:
        features = optimum_model.run_vision(folder, prompt, described.vision)
        logits = optimum_model.run_decoder(folder, prompt, features)
    elif described.layout == ONNX.name:
        from vlrun_export.onnx_format import check_model  # imports ONNX Runtime

        features = check_model.run_vision(folder / ONNX.graph_file("vision"), prompt, described.vision)
        logits = check_model.run_decoder(folder / ONNX.graph_file("decoder"), prompt, features, described.text)
    else:
        features = run_vision(folder / manifest.VISION_XML, prompt, described.vision)
        logits = run_decoder(folder / manifest.DECODER_XML, prompt, features)
    encoder, decoder = LIMITS[described.quantization.vision], LIMITS[described.quantization.decoder]
    looser = max(encoder, decoder, key=lambda limits: limits.error)
    return *_compare_features(features, reference.features, encoder), *compare_logits(logits, reference.logits, looser)


def require_passed(results: tuple[CheckResult, ...]) -> None:
    """Raise CheckFailed for the first metric beyond its limit."""
    for result in results:
        if not result.passed:
            metric = f"{result.name} is {result.value:.2g}; the limit is {result.limit:.2g}"
            raise CheckFailed(f"the export deviates from transformers: {metric}")


def table(results: tuple[CheckResult, ...]) -> list[str]:
    """Format the results as aligned lines of at most 80 columns."""
    rows = [("self-check against transformers", "measured", "limit", "verdict")]
    rows += [
        (result.name, f"{result.value:.2g}", f"{_bound(result)} {result.limit:.2g}", _verdict(result))
        for result in results
    ]
    width = max(len(row[0]) for row in rows)
    return [f"{name:<{width}}  {value:>8}  {limit:<9}  {verdict}" for name, value, limit, verdict in rows]


def _bound(result: CheckResult) -> str:
    return ">=" if result.name == AGREEMENT else "<="


def _verdict(result: CheckResult) -> str:
    if result.passed:
        return "ok"
    if math.isnan(result.value):
        return "not a number"
    return "too small" if result.name == AGREEMENT else "too large"


def _compare_features(ours: FloatArray, theirs: FloatArray, limits: Limits) -> list[CheckResult]:
    names = ["vision embeddings", *(f"DeepStack row {level}" for level in range(1, len(theirs)))]
    return [
        _at_most(f"{name}, error / scale", _error(mine, reference), limits.error)
        for name, mine, reference in zip(names, ours, theirs, strict=True)
    ]


def compare_logits(ours: FloatArray, theirs: FloatArray, limits: Limits) -> list[CheckResult]:
    """Compare logits ``[T, vocab_rows]``: error, mean KL divergence and top-1 agreement."""
    ours_log, theirs_log = _log_softmax(ours), _log_softmax(theirs)
    divergence = float((np.exp(theirs_log) * (theirs_log - ours_log)).sum(axis=1).mean())
    agreement = float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean())
    return [
        _at_most("logits, error / scale", _error(ours, theirs), limits.error),
        _at_most("logits, mean KL divergence", divergence, limits.divergence),
        CheckResult(AGREEMENT, agreement, limits.agreement, agreement >= limits.agreement),
    ]


def _at_most(name: str, value: float, limit: float) -> CheckResult:
    return CheckResult(name, value, limit, bool(value <= limit))  # NaN does not pass


def _error(ours: FloatArray, theirs: FloatArray) -> float:
    """Return the largest difference, relative to the reference's largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def _log_softmax(logits: FloatArray) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
