"""Available memory: the machine's, or the cgroup's limit if it is lower."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vlrun.backends.system_memory import FALLBACK, total_memory

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
                "proc/self/cgroup": "4:cpuset,memory:/slice/one\n1:cpu:/other\n0::/\n",
                "sys/fs/cgroup/memory/slice/memory.limit_in_bytes": f"{1700 * MIB}\n",
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
def test_the_lowest_limit_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], mib: int
) -> None:
    """Guards containers and systemd slices against a KV cache sized for the whole machine, and sandboxes that hide
    /proc/meminfo.
    """
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 262144, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert total_memory(write(tmp_path, files)) == mib * MIB


def test_a_fallback_is_used_if_the_memory_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sysconf(3) may answer -1 or fail."""
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": -1, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert total_memory(tmp_path) == FALLBACK
    monkeypatch.setattr(os, "sysconf", int)
    assert total_memory(tmp_path) == FALLBACK
