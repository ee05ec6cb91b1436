"""How much memory there is: the machine's, or the cgroup's if that is less."""

from __future__ import annotations

import mmap
import os
import shutil
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13

import vlrun
from vlrun.backends.openvino.memory import WHERE_UNKNOWN, MappedWeights, total_memory
from vlrun.embedded import FOLDER

MIB = 2**20


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MACHINE = {"proc/meminfo": "MemTotal:        8388608 kB\nMemFree: 1 kB\n"}


@pytest.mark.parametrize(
    ("files", "mib"),
    [
        (MACHINE, 8192),
        (MACHINE | {"sys/fs/cgroup/memory.max": "max\n"}, 8192),
        (MACHINE | {"sys/fs/cgroup/memory.max": f"{3000 * MIB}\n"}, 3000),
        (MACHINE | {"sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2000 * MIB}\n"}, 2000),
        (MACHINE | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8192),
        (
            MACHINE
            | {
                "proc/self/cgroup": "0::/system.slice/vlrun.service\n",
                "sys/fs/cgroup/system.slice/memory.max": f"{1500 * MIB}\n",
                "sys/fs/cgroup/system.slice/vlrun.service/memory.max": "max\n",
            },
            1500,
        ),
        (
            MACHINE
            | {
                "proc/self/cgroup": "4:cpuset,memory:/box/one\n1:cpu:/other\n0::/\n",
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{1700 * MIB}\n",
                "sys/fs/cgroup/memory/other/memory.limit_in_bytes": f"{1 * MIB}\n",
            },
            1700,
        ),
        (MACHINE | {"proc/self/cgroup": "nonsense"}, 8192),
        ({}, 1024),
        ({"proc/meminfo": "nonsense"}, 1024),
        ({"sys/fs/cgroup/memory.max": f"{500 * MIB}\n"}, 500),
    ],
)
def test_the_smallest_limit_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], mib: int
) -> None:
    """Guards a container or a systemd slice from a KV cache sized by the whole machine, and a sandbox that hides
    /proc/meminfo from one sized by nothing.
    """
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 262144, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert total_memory(write(tmp_path, files)) == mib * MIB


def test_memory_that_nobody_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards systems whose sysconf(3) answers -1, or not at all."""
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": -1, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert total_memory(tmp_path) == WHERE_UNKNOWN
    monkeypatch.setattr(os, "sysconf", int)
    assert total_memory(tmp_path) == WHERE_UNKNOWN


def residents(path: Path) -> list[int]:
    """KiB in memory of each mapping of a file."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    starts = [number for number, line in enumerate(lines) if line.endswith(str(path))]
    return [int(next(line for line in lines[at:] if line.startswith("Rss:")).split()[1]) for at in starts]


def weights(model: ov.Model) -> bytes:
    """All constants of a model, read."""
    return b"".join(node.data.tobytes() for node in model.get_ops() if node.get_type_name() == "Constant")


def test_mapped_pages_are_let_go_and_come_back(tmp_path: Path) -> None:
    """Guards the memory of a loaded model, and the weights: what is read again is what was in the file; and other
    mappings, also one of the same file, which somebody may be giving back at this very moment.
    """
    for name in ("decoder.xml", "decoder.bin"):
        shutil.copy(FOLDER / name, tmp_path)
    path = tmp_path / "decoder.bin"
    model = ov.Core().read_model(tmp_path / "decoder.xml")
    with path.open("rb") as file:
        other = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        before, whole = weights(model), len(bytes(other)) // 1024
        assert min(residents(path)) > whole / 2
        with MappedWeights(model, path):
            pass
        assert min(residents(path)) == 0
        assert max(residents(path)) >= whole
        assert weights(model) == before


def test_pages_that_were_written_are_kept(tmp_path: Path) -> None:
    """Guards a private mapping that somebody wrote to: its changes exist nowhere else."""
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(8192))
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        mapped[:5] = b"dirty"
        weight = ov.op.Constant(ov.Tensor(np.frombuffer(mapped, np.uint8), shared_memory=True))
        MappedWeights(ov.Model([opset13.relu(opset13.convert(weight, ov.Type.f32))], []), path).release()
        assert mapped[:5] == b"dirty"


def test_a_loaded_model_keeps_no_file_in_memory() -> None:
    """Guards the purpose on the real plugin: weights are there once, as its own copy.

    Models of other tests may be alive too: each has a mapping of its own.
    """
    with vlrun.load() as vlm:
        assert vlm.ask([], "Hi", vlrun.Options(max_tokens=2)).text
        assert max(residents(FOLDER / "decoder.bin")) < (FOLDER / "decoder.bin").stat().st_size / 1024 / 2
