"""Who takes part in the comparison: vlrun, and every peer whose model folder is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vlrun.bench.runner import WorkloadCommand, vlrun_workload

OURS, GENAI = "vlrun", "openvino-genai"
CLIENT_ENVIRONMENT = {"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI"}
"""Makes oneDNN compute as on a client CPU without AVX-512 and bf16."""
CLIENT_PRECISION = "f32"
"""Without bf16, every half of a model computes in f32."""


@dataclass(frozen=True)
class Participant:
    """``once``: it is slow and runs only in the first turn; ``client``: it runs as on a client CPU."""

    workload: WorkloadCommand
    once: bool = False
    client: bool = False

    @property
    def name(self) -> str:
        """As shown in tables and stored in results."""
        return self.workload.name


@dataclass(frozen=True)
class Comparison:
    """What to compare. ``peers``: folder with the peers' models; ``length``: the options ``--rounds`` and ``--tokens``.

    ``peers`` holds `optimum` (an export of optimum-cli, for openvino-genai and optimum-intel), `checkpoint` (for
    transformers) and `llama` (llama-server, model.gguf and mmproj.gguf), or some of these.
    """

    model: Path
    peers: Path | None = None
    client: bool = False
    length: Sequence[str] = field(default=())

    def participants(self) -> list[Participant]:
        """Return vlrun, every peer whose folder exists and, if requested, vlrun and genai as on a client CPU."""
        short = ("--rounds", "1", "--tokens", "8")
        own = vlrun_workload(OURS, self.model, self.length)
        genai = self._peer(GENAI, "genai", "optimum")
        found = [
            Participant(own),
            *genai,
            *self._peer(f"{GENAI}, best hints", "genai", "optimum", "--setting", "best"),
            *self._peer("optimum-intel", "optimum_intel", "optimum"),
            *self._peer("llama.cpp", "llama_cpp", "llama"),
            *self._peer("transformers bf16", "torch_reference", "checkpoint", "--setting", "bfloat16", *short),
            *self._peer("transformers fp32", "torch_reference", "checkpoint", "--setting", "float32", *short),
        ]
        if self.client:
            found += [_on_client(one) for one in (Participant(replace(own, processes=((),))), *genai)]
        return found

    def _peer(self, name: str, module: str, folder: str, *further: str) -> list[Participant]:
        path = self.peers / folder if self.peers else None
        if not path or not path.is_dir():
            return []
        command = (f"benchmarks.peers.{module}", str(path), *self.length, *further)
        return [Participant(WorkloadCommand(name, command), once=name.startswith("transformers"))]


def _on_client(participant: Participant) -> Participant:
    workload = participant.workload
    name, command = f"{workload.name}, client CPU", (*workload.command, "--setting", CLIENT_PRECISION)
    return Participant(replace(workload, name=name, command=command, environment=CLIENT_ENVIRONMENT), client=True)
