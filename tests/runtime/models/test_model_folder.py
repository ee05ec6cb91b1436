"""Damaged and hostile model folders: one sentence that names the file, at once, before anything is compiled."""

from __future__ import annotations

import copy
import errno
import gc
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vlrun import manifest as manifests
from vlrun.backends.openvino.device import Device, check_ports, open_device
from vlrun.backends.openvino.graph_check import check_decoder_graph, check_vision_graph
from vlrun.backends.openvino.hints import Hints
from vlrun.backends.openvino.vision_encoder import expected_ports
from vlrun.embedded import FOLDER
from vlrun.errors import DamagedModel, ModelChanged, ModelNotFound, VlrunError
from vlrun.manifest import CHAT_TEMPLATE, DECODER_BIN, DECODER_XML, MANIFEST, TOKENIZER, VISION_BIN, VISION_XML
from vlrun.models.model_folder import ModelFolder
from vlrun.prompt.chat_template import ChatTemplate
from vlrun.prompt.tokenizer import load_tokenizer

EMBEDDED = json.loads((FOLDER / MANIFEST).read_text("utf-8"))
FILES = (*EMBEDDED["files"], MANIFEST)


@pytest.fixture(scope="module")
def device() -> Device:
    return open_device(Hints())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The embedded model as links to its files."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in FILES:
        (folder / name).symlink_to(FOLDER / name)
    return folder


def open_without_compiling(folder: Path, device: Device) -> None:
    """Do what loading a model does, except for compiling."""
    opened = ModelFolder(folder)
    opened.check_hashes()
    tokenizer = load_tokenizer(opened.read(TOKENIZER), opened)
    ChatTemplate(opened.read_text(CHAT_TEMPLATE), tokenizer, opened.manifest.tokens.image)
    text, vision = opened.manifest.text, opened.manifest.vision
    check_decoder_graph(device.read_model(opened, DECODER_XML, DECODER_BIN), text, DECODER_XML)
    vision_model = device.read_model(opened, VISION_XML, VISION_BIN)
    check_ports(vision_model, expected_ports(vision), VISION_XML)
    check_vision_graph(vision_model, vision, text.hidden, VISION_XML)


def refusal(folder: Path, device: Device) -> str:
    """Return the sentence with which a folder is refused. A hanging test is ended by the time limit of pytest."""
    with pytest.raises(VlrunError) as refused:
        open_without_compiling(folder, device)
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert len(sentence) < 600
    return sentence


def own(path: Path) -> bytes:
    """Replace a link by a copy, and return its content."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return content


def flip_bytes(path: Path) -> None:
    content = bytearray(own(path))
    middle = len(content) // 2
    content[middle : middle + 2] = bytes(byte ^ 0x5A for byte in content[middle : middle + 2])
    path.write_bytes(content)


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(change(own(path)))

    return damage


def replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def make_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**38)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "FIFO": replaced(os.mkfifo),
    "endless device": replaced(lambda path: path.symlink_to("/dev/zero")),
    "null device": replaced(lambda path: path.symlink_to("/dev/null")),
    "directory": replaced(Path.mkdir),
    "link to itself": replaced(lambda path: path.symlink_to(path)),
    "huge sparse file": replaced(make_sparse),
    "empty": rewritten(lambda _: b""),
    "truncated": rewritten(lambda content: content[: len(content) // 2]),
    "not UTF-8": rewritten(lambda content: b"\xff\xfe" + content[2:]),
    "one change": flip_bytes,
}


@pytest.mark.fault(36)
@pytest.mark.fault(47)
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_at_once(folder: Path, device: Device, name: str, damage: str) -> None:
    """Guards FIFOs and devices, which made loading hang or fill the memory, and the wrong file in the message."""
    DAMAGE[damage](folder / name)
    assert name in refusal(folder, device)


@pytest.mark.parametrize("name", FILES)
def test_an_unreadable_file_is_named(folder: Path, device: Device, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Simulated, since tests may run as root."""
    real_open = os.open

    def refuse(path: object, *given: Any, **named: Any) -> int:
        if Path(str(path)).name == name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_open(path, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    sentence = refusal(folder, device)
    assert name in sentence
    assert "Permission denied" in sentence


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (CHAT_TEMPLATE, b"caf\xe9"),
        (CHAT_TEMPLATE, b"{% if %}"),
        (CHAT_TEMPLATE, b"x" * (2**20 + 1)),
        (TOKENIZER, b""),
        (TOKENIZER, b"{}"),
        (TOKENIZER, b"[" * 100_000),
        (TOKENIZER, b"\xff\xfe"),
        (DECODER_XML, b""),
        (DECODER_XML, b"<net"),
        (DECODER_XML, b"<?xml version='1.0'?><net name='m' version='11'><layers/></net>"),
        (DECODER_XML, (FOLDER / VISION_XML).read_bytes()),
        (VISION_XML, b"no graph"),
        (DECODER_BIN, b""),
        (VISION_BIN, b"short"),
    ],
)
def test_a_folder_that_is_damaged_as_its_manifest_says_is_refused(
    folder: Path, device: Device, name: str, content: bytes
) -> None:
    """Guards internal errors for folders of others, whose hashes are right."""
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    rewrite_manifest(folder, lambda manifest: manifest["files"].update({name: entry_of(content)}))
    sentence = refusal(folder, device)
    assert "template" in sentence if name == CHAT_TEMPLATE else name.partition(".")[0] in sentence


def entry_of(content: bytes) -> dict[str, object]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = copy.deepcopy(EMBEDDED)
    change(manifest)
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def rewrite_tokenizer(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tokenizer = json.loads((FOLDER / TOKENIZER).read_text("utf-8"))
    change(tokenizer)
    content = json.dumps(tokenizer).encode()
    (folder / TOKENIZER).unlink()
    (folder / TOKENIZER).write_bytes(content)
    rewrite_manifest(folder, lambda manifest: manifest["files"].update({TOKENIZER: entry_of(content)}))


DOUBLING = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}


@pytest.mark.parametrize(
    ("part", "state"),
    [
        ("normalizer", DOUBLING),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}, *[DOUBLING] * 40]}),
        ("decoder", {"type": "Sequence", "decoders": [{"type": "ByteLevel"} | EMBEDDED.get("", {})] + [DOUBLING] * 40}),
    ],
)
def test_tokenizers_that_multiply_the_text_are_refused(
    folder: Path, device: Device, part: str, state: dict[str, object]
) -> None:
    """Guards the memory: forty such steps turn one letter into a terabyte."""
    if part == "decoder":
        state["decoders"][0].update(add_prefix_space=True, trim_offsets=True, use_regex=True)  # type: ignore[index]
    rewrite_tokenizer(folder, lambda tokenizer: tokenizer.update({part: state}))
    assert "'Replace'" in refusal(folder, device)


SPLIT = {"type": "Split", "pattern": {"Regex": "[0-9A-Z]"}, "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([SPLIT | {"pattern": {"Regex": "(a+)+$"}}, BYTES], "by a regular expression that vlrun does not know"),
        ([SPLIT, SPLIT | {"pattern": {"Regex": r"(\w+\s?)*!"}}, BYTES], "by a regular expression"),
        ([SPLIT, BYTES, BYTES], "the step 'ByteLevel' more than once"),
        ([{"type": "Whitespace"}, BYTES], "the step 'Whitespace'"),
        ([SPLIT] * 17, "17 steps in a row"),
        ([{"type": "Sequence", "pretokenizers": [SPLIT | {"pattern": {"Regex": "(a|a)*b"}}]}], "regular expression"),
    ],
)
def test_tokenizers_that_split_the_text_in_unbounded_time_are_refused(
    folder: Path, device: Device, steps: list[dict[str, object]], reason: str
) -> None:
    """Guards against a pattern that backtracks for ever: thirty letters kept a processor busy for minutes."""
    rewrite_tokenizer(
        folder, lambda tokenizer: tokenizer.update(pre_tokenizer={"type": "Sequence", "pretokenizers": steps})
    )
    assert reason in refusal(folder, device)


def test_padding_and_truncation_of_a_tokenizer_are_off(folder: Path) -> None:
    """Guards prompts of a million padding tokens, and prompts that are cut silently."""
    padding = {
        "strategy": {"Fixed": 10**6}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "x",
    }  # fmt: skip
    truncation = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    rewrite_tokenizer(folder, lambda tokenizer: tokenizer.update(padding=padding, truncation=truncation))
    opened = ModelFolder(folder)
    assert 1 < len(load_tokenizer(opened.read(TOKENIZER), opened).encode("How many?").ids) < 20


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all numbers."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    elif isinstance(value, int | float):
        yield path


REPLACEMENTS = ("-1", "0", "1", "1000000000000000000", "1e18", "2147483648", "null", '"x"', "[]", "{}", "NaN", "1e999")
HARMLESS = {
    "check",
    "generation",
    "rope_theta",
    "mean",
    "std",
    "min_pixels",
    "max_pixels",
    "fps",
    "min_frames",
    "max_frames",
    "max_positions",
    "eos",
    "depth",
}
"""Numbers that no file of the folder describes: other values within their ranges are taken as they are."""


@pytest.mark.parametrize("path", list(leaves(EMBEDDED)), ids=str)
def test_impossible_numbers_of_the_manifest_are_refused(folder: Path, device: Device, path: tuple[Any, ...]) -> None:
    """Guards `layers: 2147483648`, which filled the memory, and indices beyond a table of the graph."""
    for value in REPLACEMENTS:
        manifest = copy.deepcopy(EMBEDDED)
        parent = manifest
        for key in path[:-1]:
            parent = parent[key]
        if json.dumps(parent[path[-1]]) == value:
            continue
        parent[path[-1]] = "REPLACED"
        text = json.dumps(manifest).replace('"REPLACED"', value)
        try:
            parsed = manifests.parse(text.encode(), folder)
        except VlrunError as error:
            assert "\n" not in str(error)  # noqa: PT017 - some values are possible
            continue
        assert parsed.text.layers <= 1024
        if not {*HARMLESS, "heads", "merge"} & set(path):
            (folder / MANIFEST).unlink(missing_ok=True)
            (folder / MANIFEST).write_text(text)
            refusal(folder, device)


@pytest.mark.parametrize("name", ["../decoder.bin", "/etc/passwd", "a/b", "..", "", "\0"])
def test_names_outside_the_folder_are_refused(folder: Path, name: str) -> None:
    rewrite_manifest(folder, lambda manifest: manifest["files"].update({name: entry_of(b"")}))
    with pytest.raises(DamagedModel, match=r"manifest\.json"):
        ModelFolder(folder)


def test_a_folder_that_is_none_is_reported(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for path in ("missing", "fifo", "file", "empty", "a\0b", "x" * 5000):
        with pytest.raises(ModelNotFound, match=r"folder|manifest"):
            ModelFolder(tmp_path / path)


def test_a_removed_working_directory_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards an internal error of getcwd."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for path in (".", "model"):
        with pytest.raises(ModelNotFound, match="no model folder"):
            ModelFolder(Path(path))


def test_without_proc_files_are_opened_by_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards a chroot."""
    opened = ModelFolder(folder)
    assert opened.opened_path(TOKENIZER).is_relative_to("/proc")
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert opened.opened_path(TOKENIZER) == opened.named_path(TOKENIZER) == folder / TOKENIZER


def test_a_file_that_took_the_name_of_another_is_not_used(folder: Path) -> None:
    """Guards a GPU, whose compiled models find their weights by name: a later export has weights of another model."""
    opened = ModelFolder(folder)
    path = opened.named_path(DECODER_BIN)
    assert path is not None
    assert path.samefile(folder / DECODER_BIN)
    (folder / "new").write_bytes(b"other weights")
    (folder / "new").replace(folder / DECODER_BIN)
    assert opened.named_path(DECODER_BIN) is None
    (folder / DECODER_BIN).unlink()
    assert opened.named_path(DECODER_BIN) is None


@pytest.mark.fault(56)
def test_an_opened_folder_does_not_depend_on_its_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor on the names of its files; metadata may change as long as the bytes do not."""
    own(folder / CHAT_TEMPLATE)
    expected = (folder / CHAT_TEMPLATE).read_bytes()
    monkeypatch.chdir(folder.parent)
    opened = ModelFolder(Path("model"))
    os.link(folder / CHAT_TEMPLATE, folder / "other name")
    (folder / CHAT_TEMPLATE).chmod(0o400)
    (folder / CHAT_TEMPLATE).unlink()
    (folder / CHAT_TEMPLATE).write_text("another template")
    shutil.rmtree(folder)
    monkeypatch.chdir("/")
    opened.check_unchanged()
    assert opened.read(CHAT_TEMPLATE) == expected
    assert opened.opened_path(CHAT_TEMPLATE).read_bytes() == expected


@pytest.mark.fault(45)
def test_a_change_in_place_is_found_whatever_the_times_say(folder: Path) -> None:
    own(folder / DECODER_BIN)
    opened = ModelFolder(folder)
    status = (folder / DECODER_BIN).stat()
    with (folder / DECODER_BIN).open("r+b") as file:
        file.seek(1000)
        file.write(b"changed")
    os.utime(folder / DECODER_BIN, ns=(status.st_atime_ns, status.st_mtime_ns))
    for names in ((), (DECODER_BIN,)):
        with pytest.raises(ModelChanged, match=r"decoder\.bin in '.*' was changed"):
            opened.check_unchanged(*names)
    opened.check_unchanged(VISION_BIN)


def test_descriptors_are_closed_with_the_folder(folder: Path) -> None:
    """Guards a service or notebook that loads models again and again."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counts
    for _ in range(3):
        ModelFolder(folder)
    (folder / CHAT_TEMPLATE).unlink()
    with pytest.raises(DamagedModel):
        ModelFolder(folder)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
