"""The benchmark's workload is the same on every machine."""

from __future__ import annotations

from vlrun import manifest as manifests
from vlrun.bench import workload
from vlrun.embedded import FOLDER
from vlrun.models.registry import family_of


def test_a_limit_learned_for_slow_machines_does_not_change_the_workload() -> None:
    """Guards against 250 prompt tokens in place of 784 after a run on a busy machine."""
    assert workload._greedy(4).detail == "high"
    width, height = workload.IMAGE_SIZE
    assert width * height // 32**2 <= family_of(manifests.read(FOLDER)).image_token_budget("high")
