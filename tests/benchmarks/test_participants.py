"""Which participants a comparison has."""

from __future__ import annotations

from pathlib import Path

from benchmarks.participants import Comparison


def names(comparison: Comparison) -> list[str]:
    return [participant.name for participant in comparison.participants()]


def test_only_peers_with_a_folder_take_part(tmp_path: Path) -> None:
    assert names(Comparison(tmp_path)) == ["vlrun"]
    (tmp_path / "optimum").mkdir()
    assert names(Comparison(tmp_path, peers=tmp_path)) == [
        *("vlrun", "openvino-genai", "openvino-genai, best hints", "optimum-intel")
    ]


def test_client_runs_are_marked_and_slow_peers_run_only_once(tmp_path: Path) -> None:
    for folder in ("optimum", "checkpoint", "llama"):
        (tmp_path / folder).mkdir()
    found = Comparison(tmp_path, peers=tmp_path, client=True, length=("--rounds", "2")).participants()
    assert [participant.name for participant in found if participant.client] == [
        "vlrun, client CPU",
        "openvino-genai, client CPU",
    ]
    assert [participant.name for participant in found if participant.once] == ["transformers bf16", "transformers fp32"]
    assert all("--rounds" in participant.workload.command for participant in found)
    assert all(participant.workload.environment for participant in found if participant.client)
