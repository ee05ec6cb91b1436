"""Only regular files of bounded size inside a checkpoint are read, and every other kind of file is named as such."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.export.reading import read_checkpoint
from tests.small_models import build_checkpoint
from vlrun.errors import CheckpointError
from vlrun_export.checkpoint_files import CheckpointFiles, open_folder

REQUIRED = (
    "config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json", "tokenizer.json",
    "chat_template.jinja", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
)  # fmt: skip
FOREIGN = ("model.safetensors", "processor_config.json")
"""Names that the checkpoint of these tests does not have, and whose presence matters."""

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 4255140312\n"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_checkpoint(tmp_path_factory.mktemp("files") / "ck", tied=True, deepstack=(1, 3), seed=6, shards=2)


@pytest.fixture
def checkpoint(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "checkpoint")


def link_outside(path: Path) -> None:
    secret = path.parent.with_name("secret")
    secret.write_text("{}")
    path.symlink_to(secret)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "FIFO": (os.mkfifo, "is not a regular file"),
    "directory": (Path.mkdir, "is not a regular file"),
    "socket": (lambda path: os.mknod(path, stat.S_IFSOCK), "No such device"),
    "endless device": (lambda path: path.symlink_to("/dev/zero"), "leaves the checkpoint"),
    "link outside": (link_outside, "leaves the checkpoint"),
    "link up": (lambda path: path.symlink_to("../../../../etc/passwd"), "leaves the checkpoint|does not exist"),
    "dangling link": (lambda path: path.symlink_to("nowhere"), "does not exist"),
    "link to itself": (lambda path: path.symlink_to(path.name), "Too many levels"),
    "Git LFS pointer": (lambda path: path.write_text(LFS), "Git LFS pointer.*git lfs pull"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_only_regular_files_of_the_checkpoint_are_opened(tmp_path: Path, fault: str) -> None:
    """Guards links to other people's files, which were shipped, and files on which an export waited for ever."""
    (tmp_path / "checkpoint").mkdir()
    make, message = FAULTS[fault]
    make(tmp_path / "checkpoint" / "name")
    with pytest.raises(CheckpointError, match=message) as caught:
        CheckpointFiles(tmp_path / "checkpoint").read("name", 1000)
    assert str(caught.value).removeprefix("cannot read ").startswith("name of ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ["FIFO", "link outside"])
@pytest.mark.parametrize("name", [*REQUIRED, *FOREIGN])
def test_no_file_is_opened_in_another_way(checkpoint: Path, name: str, fault: str) -> None:
    path, (make, message) = checkpoint / name, FAULTS[fault]
    path.unlink(missing_ok=True)
    make(path)
    with pytest.raises(CheckpointError, match=rf"{name} of .*({message})"):
        read_checkpoint(checkpoint)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00{", b"[" * 100_000, b"null"])
@pytest.mark.parametrize("name", [name for name in REQUIRED if name != "chat_template.jinja"])
def test_a_damaged_file_is_blamed_by_name(checkpoint: Path, name: str, content: bytes) -> None:
    (checkpoint / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(checkpoint)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_that_is_not_utf_8_is_refused(checkpoint: Path) -> None:
    """Guards a template with replacement characters, which would give other prompts than transformers."""
    (checkpoint / "chat_template.jinja").write_bytes(b"{{ '\xe9' }}")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja .* not valid UTF-8"):
        read_checkpoint(checkpoint)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_file_that_this_user_may_not_read_is_told_as_that(
    checkpoint: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards 'damaged or incomplete' for weights of another user. Patched, because root may read everything."""
    real = os.open

    def refuse(path: Path, *rest: int, **keywords: int) -> int:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **keywords)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CheckpointError, match=rf"cannot read {name} of .*: Permission denied"):
        read_checkpoint(checkpoint)


def test_links_inside_the_folder_and_into_its_hub_cache_are_followed(pristine: Path, tmp_path: Path) -> None:
    """The Hugging Face cache links snapshots/REVISION/NAME to blobs/HASH."""
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0123", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(pristine.iterdir()):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    (snapshot / "inside.json").symlink_to("config.json")
    assert CheckpointFiles(snapshot).json("inside.json")["model_type"] == "qwen3_vl"
    (tmp_path / "link").symlink_to(snapshot)
    assert read_checkpoint(tmp_path / "link").text.layers == 4


@pytest.mark.fault(46)
def test_a_link_into_the_blobs_of_another_model_is_refused(tmp_path: Path) -> None:
    for model in ("a", "b"):
        (tmp_path / model / "snapshots" / "0123").mkdir(parents=True)
        (tmp_path / model / "blobs").mkdir()
        (tmp_path / model / "blobs" / "1").write_text("{}")
    (tmp_path / "a" / "snapshots" / "0123" / "config.json").symlink_to(tmp_path / "b" / "blobs" / "1")
    with pytest.raises(CheckpointError, match="leaves the checkpoint"):
        CheckpointFiles(tmp_path / "a" / "snapshots" / "0123").json("config.json")


@pytest.mark.parametrize(("name", "limit"), [("config.json", 16), ("chat_template.jinja", 1), ("tokenizer.json", 128)])
def test_files_have_a_size_limit(checkpoint: Path, name: str, limit: int) -> None:
    with (checkpoint / name).open("ab") as file:
        file.truncate(limit * 2**20 + 1)  # sparse
    with pytest.raises(CheckpointError, match=rf"{name} .* the limit is {limit * 2**20:,}"):
        read_checkpoint(checkpoint)


def test_a_file_or_an_unreadable_folder_is_told_as_that(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        open_folder(checkpoint / "config.json")
    monkeypatch.setattr(os, "scandir", lambda folder: os.close(-1))
    with pytest.raises(CheckpointError, match="cannot read the folder"):
        open_folder(checkpoint)
