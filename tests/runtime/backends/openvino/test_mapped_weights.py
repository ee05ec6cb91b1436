"""Memory of mapped weights: released while a plugin copies them, and read again when needed."""

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
from vlrun.backends.openvino import mapped_weights
from vlrun.backends.openvino.mapped_weights import MappedWeights
from vlrun.embedded import FOLDER

MIB = 2**20


def resident_kib(path: Path) -> list[int]:
    """Return the KiB in memory of each mapping of a file."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    starts = [number for number, line in enumerate(lines) if line.endswith(str(path))]
    return [int(next(line for line in lines[at:] if line.startswith("Rss:")).split()[1]) for at in starts]


def resident_mappings(path: Path) -> int:
    """Return the number of mappings of a file with more than half of it in memory."""
    return sum(kib > path.stat().st_size / 1024 / 2 for kib in resident_kib(path))


def read_constants(model: ov.Model) -> bytes:
    """Read all constants of a model."""
    return b"".join(node.data.tobytes() for node in model.get_ops() if node.get_type_name() == "Constant")


def test_released_pages_are_read_from_the_file_again(tmp_path: Path) -> None:
    """Other mappings of the same file keep their pages."""
    for name in ("decoder.xml", "decoder.bin"):
        shutil.copy(FOLDER / name, tmp_path)
    path = tmp_path / "decoder.bin"
    model = ov.Core().read_model(tmp_path / "decoder.xml")
    with path.open("rb") as file:
        other = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        before, file_kib = read_constants(model), len(bytes(other)) // 1024
        assert min(resident_kib(path)) > file_kib / 2
        with MappedWeights(model):
            pass
        assert min(resident_kib(path)) == 0
        assert max(resident_kib(path)) >= file_kib
        assert read_constants(model) == before


def test_written_pages_are_kept(tmp_path: Path) -> None:
    """Guards a private mapping: its changes exist nowhere else."""
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(8192))
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        mapped[:5] = b"dirty"
        weight = ov.op.Constant(ov.Tensor(np.frombuffer(mapped, np.uint8), shared_memory=True))
        MappedWeights(ov.Model([opset13.relu(opset13.convert(weight, ov.Type.f32))], [])).release()
        assert mapped[:5] == b"dirty"


@pytest.mark.slow
def test_a_loaded_model_keeps_its_weights_in_memory_once() -> None:
    """Measured before an answer, which maps the pages of its embedding rows again. A page may bring the whole small
    file with it, where the kernel keeps files in large folios.
    """
    paths = (FOLDER / "decoder.bin", FOLDER / "vision.bin")
    before = [(resident_mappings(path), len(resident_kib(path))) for path in paths]  # other tests may load models
    with vlrun.load():
        after = [(resident_mappings(path), len(resident_kib(path))) for path in paths]
    assert after == before  # nothing of a small model stays mapped, although the plugin splits the mapping


@pytest.mark.slow
def test_an_answer_leaves_no_pages_of_the_weights_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither rows of the embedding table nor weights that were packed again: 114 MiB in the 2B model."""
    monkeypatch.setattr(mapped_weights, "MAX_OWNED_BYTES", 1000)
    with vlrun.load() as vlm:
        vlm.ask([], "What is there?", vlrun.Options(max_tokens=3))
        assert max(resident_kib(FOLDER / "decoder.bin")) == 0


@pytest.mark.fault(45)
def test_owned_weights_survive_a_file_that_is_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against SIGBUS. Large files stay mapped, because a copy would take their size in memory."""
    for name in ("decoder.xml", "decoder.bin"):
        shutil.copy(FOLDER / name, tmp_path)
    path = tmp_path / "decoder.bin"
    model = ov.Core().read_model(tmp_path / "decoder.xml")
    before, mapped = read_constants(model), MappedWeights(model)
    with monkeypatch.context() as patch:
        patch.setattr(mapped_weights, "MAX_OWNED_BYTES", 1000)
        mapped.own()
    assert resident_kib(path)
    mapped.own()
    assert not resident_kib(path)
    os.truncate(path, 100)
    mapped.release()  # must not discard the copy
    assert read_constants(model) == before
