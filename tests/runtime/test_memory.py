"""How much memory there is: the machine's, or the cgroup's if that is less."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlrun.model.memory import WHERE_UNKNOWN, total_memory

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
        ({}, WHERE_UNKNOWN // MIB),
        ({"proc/meminfo": "nonsense"}, WHERE_UNKNOWN // MIB),
    ],
)
def test_the_smallest_limit_holds(tmp_path: Path, files: dict[str, str], mib: int) -> None:
    """Guards a container or a systemd slice from a KV cache sized by the whole machine."""
    assert total_memory(write(tmp_path, files)) == mib * MIB
