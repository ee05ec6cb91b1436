"""Available memory: the machine's, or the cgroup's limit if it is lower."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.runtime.model_folders import make_manifest
from vlrun.backends.system_memory import FALLBACK, available_memory, check_memory, total_memory
from vlrun.errors import DeviceError, OptionError
from vlrun.manifest import DECODER_BIN, VISION_BIN, FileEntry
from vlrun.types.cache_config import CacheConfig

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


GROUP = "sys/fs/cgroup/box"
MODERN = {
    "proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\nSwapTotal: 1048576 kB\n",
    "proc/self/cgroup": "0::/box\n",
}


def group(limit: int, used: int, cached: int, swap: str = "0") -> dict[str, str]:
    """Return the files of a control group, in MiB."""
    return MODERN | {
        f"{GROUP}/memory.max": f"{limit * MIB}\n",
        f"{GROUP}/memory.current": f"{used * MIB}\n",
        f"{GROUP}/memory.stat": f"anon 5\ninactive_file {cached * MIB}\n",
        f"{GROUP}/memory.swap.max": f"{swap}\n",
    }


V1 = MODERN | {
    "proc/self/cgroup": "4:memory:/box\n",
    "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{1000 * MIB}",
    "sys/fs/cgroup/memory/box/memory.usage_in_bytes": f"{700 * MIB}",
    "sys/fs/cgroup/memory/box/memory.stat": f"total_inactive_file {100 * MIB}",
}


@pytest.mark.parametrize(
    ("files", "mib"),
    [(MODERN, 8192), (group(3000, 1000, 500), 2500), (group(3000, 4000, 0), 0), (V1, 400), (MACHINE, 8192)],
)
def test_available_memory_counts_what_the_group_can_still_take(tmp_path: Path, files: dict[str, str], mib: int) -> None:
    """Cached files can be dropped, so they count as free."""
    assert available_memory(write(tmp_path, files)) == mib * MIB


@pytest.mark.fault(54)
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (group(1500, 100, 50), "needs at least 1.8 GB of memory, but the limit of this process is 1.6 GB"),
        (V1, "needs about 2.8 GB of memory, the limit of this process is 1.0 GB"),  # swap space may be enough
        (group(1500, 100, 50, "max"), "needs about 2.8 GB .* may be slow, or be killed"),  # with a gigabyte of swap
        (
            group(2500, 100, 50),
            "2.8 GB of memory, the limit of this process is 2.6 GB, and 2.6 GB are free",
        ),
        (group(4000, 3500, 50), "and 0.6 GB are free"),
        (group(4000, 100, 50), None),
        (MODERN, None),
    ],
)
def test_too_little_memory_is_told_before_loading(tmp_path: Path, files: dict[str, str], expected: str | None) -> None:
    """Guards a 2B model in a small control group, which Linux kills without a word. Refused only if it cannot work."""
    sizes = {DECODER_BIN: 1_722_627_832, VISION_BIN: 410_000_000}
    manifest = make_manifest({name: FileEntry(size, "0" * 64) for name, size in sizes.items()})
    root = write(tmp_path, files)
    try:
        notes = check_memory(manifest, CacheConfig(), root=root)
    except DeviceError as error:
        notes = (str(error),)
        assert "at least" in notes[0]
        assert "at least" not in " ".join(check_memory(manifest, CacheConfig(), certain=False, root=root))
    assert len(notes) == (expected is not None)
    assert re.search(expected or "", "".join(notes))


def test_without_the_vision_encoder_less_memory_is_enough(tmp_path: Path) -> None:
    """Guards a warning about a question that fits, because ``vlrun ask`` never has both sets of weights in memory."""
    sizes = {DECODER_BIN: 1_722_627_832, VISION_BIN: 410_000_000}
    manifest = make_manifest({name: FileEntry(size, "0" * 64) for name, size in sizes.items()})
    root = write(tmp_path, group(2500, 100, 50))
    assert len(check_memory(manifest, CacheConfig(), root=root)) == 1
    assert not check_memory(manifest, CacheConfig(keep_vision_encoder=False), root=root)


@pytest.mark.parametrize("mib", [16385, 99999999999999999999])
def test_a_kv_cache_larger_than_the_memory_is_refused_at_once(mib: int, tmp_path: Path) -> None:
    """A note about "104857600000000000.0 GB of memory" came first, and the refusal when the decoder was loaded."""
    manifest = make_manifest({name: FileEntry(1000, "0" * 64) for name in (DECODER_BIN, VISION_BIN)})
    with pytest.raises(OptionError, match=f"kv_memory is {mib:,} MiB, but this machine has 16,384 MiB"):
        check_memory(manifest, CacheConfig(kv_memory=mib * MIB), root=write(tmp_path, MODERN))


def test_a_given_size_of_the_kv_cache_counts(tmp_path: Path) -> None:
    manifest = make_manifest({name: FileEntry(1000, "0" * 64) for name in (DECODER_BIN, VISION_BIN)})
    root = write(tmp_path, MODERN)
    assert not check_memory(manifest, CacheConfig(kv_memory=7000 * MIB), root=root)
    assert check_memory(manifest, CacheConfig(kv_memory=8000 * MIB), root=root)
