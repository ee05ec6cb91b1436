"""How much memory there is: the machine's, or the cgroup's if that is less."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from vlrun.model.memory import WHERE_UNKNOWN, MappedFiles, total_memory

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


def resident_of(path: Path) -> int:
    """KiB of a file's mapping that are in memory."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.endswith(str(path)))
    return int(next(line for line in lines[at:] if line.startswith("Rss:")).split()[1])


def test_mapped_pages_are_let_go_and_come_back(tmp_path: Path) -> None:
    """Guards the memory of a loaded model, and the weights: what is read again is what was in the file."""
    path, other = tmp_path / "weights.bin", tmp_path / "other.bin"
    for each in (path, other):
        each.write_bytes(b"0123456789abcdef" * 2**16)
    with path.open("rb") as file, other.open("rb") as second:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        untouched = mmap.mmap(second.fileno(), 0, prot=mmap.PROT_READ)
        content = bytes(mapped), bytes(untouched)
        assert resident_of(path) == resident_of(other) == 1024
        with MappedFiles([path]):
            pass
        assert resident_of(path) == 0
        assert resident_of(other) == 1024
        assert (bytes(mapped), bytes(untouched)) == content


def test_pages_that_were_written_are_kept(tmp_path: Path) -> None:
    """Guards a private mapping that somebody wrote to: its changes exist nowhere else."""
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(4096))
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        mapped[:5] = b"dirty"
        MappedFiles([path]).release()
        assert mapped[:5] == b"dirty"
