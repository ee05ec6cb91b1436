"""The command line: output, exit codes, invalid input, damaged models; Ctrl+C in real processes."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.paths import EXAMPLES, RUNTIME
from tests.runtime.cli.command_line import command, vlrun
from tests.runtime.cli.conftest import RunHere
from vlrun import VLM, load
from vlrun.cli.terminal import printable


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and files that are not images."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((320, 240))
    image.save(folder / "shelf.png")
    image.save(folder / "two words.jpg")
    image.save(folder / "moving.gif", save_all=True, append_images=[image.rotate(90)])
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("no image")
    data = (folder / "two words.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    image.save(folder / "cut.tif", compression="tiff_lzw")
    damaged = bytearray((folder / "cut.tif").read_bytes())
    damaged[100:2000] = bytes(1900)
    (folder / "cut.tif").write_bytes(damaged)
    Image.new("RGB", (20_001, 100)).save(folder / "strip.png")
    return folder


@pytest.fixture(scope="module")
def loaded_model(small_model: Path) -> Iterator[VLM]:
    """The model of ``one_model``: random weights generate any byte."""
    with load(small_model) as vlm:
        yield vlm


@pytest.fixture
def ask_here(run_here: RunHere, small_model: Path) -> RunHere:
    return partial(run_here, "ask", "--model", small_model)


@pytest.mark.usefixtures("one_model")
def test_only_the_answer_is_on_stdout(images: Path, ask_here: RunHere) -> None:
    """Also with --stats and a note about frames."""
    arguments = (images / "moving.gif", "How many?", "--seed", "1", "--max-tokens", "20")
    quiet, verbose = ask_here(*arguments), ask_here(*arguments, "--stats")
    assert quiet.returncode == verbose.returncode == 0, verbose.stderr
    assert quiet.stdout == verbose.stdout
    assert b"only the first is used" in quiet.stderr
    for word in (b"load", b"vision", b"TTFT", b"TPOT", b"tokens", b"memory"):
        assert word in verbose.stderr
        assert word not in quiet.stderr


@pytest.mark.usefixtures("one_model")
def test_json_is_one_object(images: Path, ask_here: RunHere) -> None:
    done = ask_here(images / "shelf.png", "--json", "--seed", "1", "--max-tokens", "5")
    answer = json.loads(done.stdout)
    assert set(answer) == {"answer", "finish_reason", "model", "usage", "timings"}
    assert answer["usage"]["completion_tokens"] <= 5
    assert {"load", "vision", "ttft", "tpot"} <= set(answer["timings"])


@pytest.mark.usefixtures("one_model")
def test_an_answer_cannot_control_the_terminal(images: Path, ask_here: RunHere) -> None:
    """An image can contain escape sequences as text. Random weights generate any byte."""
    cli_args = (images / "shelf.png", "Hi", "--temperature", "1", "--max-tokens", "200")
    for seed in map(str, range(10)):
        exact = json.loads(ask_here(*cli_args, "--seed", seed, "--json").stdout)["answer"]
        if printable(exact) != exact:
            break
    assert printable(exact) != exact
    output = ask_here(*cli_args, "--seed", seed).stdout.decode()
    assert output == printable(exact) + "\n"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", output)
    raw = ask_here(*cli_args, "--seed", seed, "--json").stdout.decode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", raw)


@pytest.mark.usefixtures("one_model")
def test_image_from_stdin_equals_file(images: Path, ask_here: RunHere) -> None:
    cli_args = ("How many?", "--temperature", "0", "--max-tokens", "12")
    from_file = ask_here(images / "two words.jpg", *cli_args)
    from_stdin = ask_here("-", *cli_args, stdin=(images / "two words.jpg").read_bytes())
    assert from_file.returncode == from_stdin.returncode == 0
    assert from_file.stdout == from_stdin.stdout
    assert len(from_file.stdout) > 1


@pytest.mark.usefixtures("one_model")
def test_a_question_may_end_in_a_file_name(images: Path, ask_here: RunHere) -> None:
    cli_args = ("--json", "--max-tokens", "1")
    named = ask_here(images / "shelf.png", "What is on label.jpg", *cli_args)
    given = ask_here(images / "shelf.png", "--question", "What is on label.jpg", *cli_args)
    assert named.returncode == given.returncode == 0
    tokens = [json.loads(done.stdout)["usage"]["prompt_tokens"] for done in (named, given)]
    assert tokens[0] == tokens[1]


def test_the_prefix_cache_on_disk_serves_the_next_process(images: Path, small_model: Path, tmp_path: Path) -> None:
    """The answer is the same and prefill is skipped; --kv-disk 0 turns the cache off."""
    question = (images / "shelf.png", "How many?", "--temperature", "0", "--max-tokens", "4")
    cli_args = ("ask", "--model", small_model, *question, "--json")
    answers = [json.loads(vlrun(*cli_args, home=tmp_path).stdout) for _ in range(2)]
    off = json.loads(vlrun(*cli_args, "--kv-disk", "0", home=tmp_path).stdout)
    assert answers[0]["answer"] == answers[1]["answer"] == off["answer"]
    assert [answer["usage"]["cached_tokens"] > 0 for answer in (*answers, off)] == [False, True, False]


@pytest.mark.slow
def test_two_processes_share_the_cache_folder(tmp_path: Path) -> None:
    """Concurrent reads and writes of the same file: correct answers, no partial file."""
    shelf = EXAMPLES / "shelf.png"
    cli_args: tuple[str | Path, ...] = ("ask", shelf, "How many bottles are there?", "--json")
    arguments, environment = command(cli_args, tmp_path)
    running = [subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    assert [json.loads(process.communicate(timeout=120)[0])["answer"] for process in running] == ["6"] * 2
    again = json.loads(vlrun(*cli_args, home=tmp_path).stdout)
    assert again["answer"] == "6"
    assert again["usage"]["cached_tokens"]
    # On a busy machine the processes may measure and choose different precisions, which have prefixes of their own.
    assert {path.suffix for path in (tmp_path / "vlrun" / "prefixes").iterdir()} == {".kv"}


@pytest.mark.usefixtures("one_model")
def test_two_images_and_default_question(images: Path, ask_here: RunHere) -> None:
    done = ask_here(images / "shelf.png", images / "two words.jpg", "--json", "--max-tokens", "2")
    one = ask_here(images / "shelf.png", "--json", "--max-tokens", "2")
    tokens = [json.loads(run.stdout)["usage"]["image_tokens"] for run in (done, one)]
    assert tokens[0] == 2 * tokens[1]


INVALID_INPUT = [
    (["missing.jpg", "How many?"], 3, "no such image: 'missing.jpg'"),
    (["missing.jpg"], 3, "no such image: 'missing.jpg'"),
    (["{images}/empty.png"], 3, "is empty"),
    (["{images}/notes.txt"], 3, "not an image that vlrun can read"),
    (["{images}/cut.jpg"], 3, "damaged or cut short"),
    (["{images}/cut.tif"], 3, "damaged or cut short"),
    (["bell\a\x9b.jpg"], 3, "no such image: 'bell.jpg'"),
    (["{images}/shelf.png", "x", "--model", "Qwen/Qwen3-VL-2B-Instruct"], 4, "'vlrun export' makes one"),
    (["{images}/strip.png"], 3, "too narrow a strip"),
    (["{images}", "x"], 3, "is a folder"),
    (["https://127.0.0.1/a.jpg", "x"], 3, "download it first"),
    (["How many bottles?"], 2, "no image given: 'How many bottles?' is neither a file nor an image file name"),
    ([], 2, "no image given"),
    (["{images}/shelf.png", " "], 2, "the question is empty"),
    (["{images}/shelf.png", ""], 2, "the question is empty"),
    (["/dev/zero", "x"], 3, "more than 67,108,864 bytes"),
    (["{images}/shelf.png", "x", "--seed", "1" * 400], 2, "seed must lie between"),
    (["{images}/shelf.png", "x", "--max-image-tokens", "1"], 2, "needs at least 4"),
    (["-", "-", "x"], 2, "only one image"),
    (["-", "x"], 3, "on stdin is empty"),
    (["{images}/shelf.png", "--temperature", "nan"], 2, "temperature"),
    (["{images}/shelf.png", "--temperature", "hot"], 2, "not a valid float"),
    (["{images}/shelf.png", "--top-p", "2"], 2, "top_p"),
    (["{images}/shelf.png", "--max-tokens", "0"], 2, "max_tokens"),
    (["{images}/shelf.png", "--stop", ""], 2, "stop strings"),
    (["{images}/shelf.png", "--no-such"], 2, "No such option"),
    (["{images}/shelf.png", "--device", "GPU"], 6, "no device 'GPU'"),
    (["{images}/shelf.png", "--device", "npu"], 6, "cannot use the NPU: OpenVINO's NPU plugin supports neither"),
    (
        ["{images}/shelf.png", "x", "--decoder-precision", "f16", "--group-size", "256"],
        2,
        "use group size 0 or another",
    ),
    (["{images}/shelf.png", "word " * 5000], 5, "but the context is 4096"),
    (["{images}/shelf.png", "word " * 2000, "--kv-memory", "1"], 5, "but the context is "),
    (["{images}/shelf.png", "x", "--kv-memory", "1", "--context", "4000"], 2, "raise kv_memory or lower context"),
    (["{images}/shelf.png", "x", "--kv-memory", "0"], 2, "kv-memory"),
    (["{images}/shelf.png", "x", "--kv-disk", "-1"], 2, "kv-disk"),
]


@pytest.mark.parametrize(("cli_args", "code", "sentence"), INVALID_INPUT, ids=lambda value: str(value)[:40])
def test_invalid_input_gets_one_sentence(
    images: Path, ask_here: RunHere, cli_args: list[str], code: int, sentence: str
) -> None:
    """Guards against stack traces and undocumented exit codes."""
    done = ask_here(*(arg.format(images=images) for arg in cli_args))
    assert done.returncode == code, done.stderr
    error = done.stderr.decode()
    assert sentence in error
    assert "Traceback" not in error
    assert done.stdout == b""
    if not error.startswith("Usage:"):
        assert error.count("\n") == 1


def weights(folder: Path, part: str) -> Path:
    """Return the file of a part's weights, for either backend."""
    (path,) = {*folder.glob(f"{part}.bin"), *folder.glob(f"{part}.onnx.data")}
    return path


def damage_missing(folder: Path) -> None:
    weights(folder, "vision").unlink()


def damage_cut(folder: Path) -> None:
    path = weights(folder, "decoder")
    path.write_bytes(path.read_bytes()[:-1])


def damage_flip(folder: Path) -> None:
    content = bytearray(weights(folder, "decoder").read_bytes())
    content[len(content) // 2] ^= 1
    weights(folder, "decoder").write_bytes(content)


def damage_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def damage_format(folder: Path) -> None:
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace('"format": 1', '"format": 99'))


def damage_family(folder: Path) -> None:
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace('"family": "qwen3-vl"', '"family": "llava"'))


def damage_escape(folder: Path) -> None:
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace('"config.json"', '"../config.json"'))


def damage_number(folder: Path) -> None:
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace('"layers": 4', '"layers": 2'))


def damage_zero(folder: Path) -> None:
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace('"merge": 2', '"merge": 0'))


DAMAGE = [
    (damage_number, "does not match its manifest"),
    (damage_zero, "manifest.json of"),
    (damage_missing, "lacks vision."),
    (damage_cut, "bytes instead of"),
    (damage_flip, "is not the file that was exported"),
    (damage_manifest, "manifest.json of"),
    (damage_format, "has format 99"),
    (damage_family, "of family 'llava'"),
    (damage_escape, "outside of the folder"),
]


@pytest.mark.fault(36)
@pytest.mark.parametrize(("damage", "sentence"), DAMAGE)
def test_damaged_or_foreign_model_is_refused(
    images: Path, small_model: Path, run_here: RunHere, tmp_path: Path, damage: object, sentence: str
) -> None:
    """The intact folder was verified before: the stamp of that check must not hide the damage."""
    folder = tmp_path / "model"
    shutil.copytree(small_model, folder)
    assert run_here("verify", folder).returncode == 0
    damage(folder)  # type: ignore[operator]
    done = run_here("ask", "--model", folder, images / "shelf.png")
    assert done.returncode == 4
    assert sentence in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    if damage is not damage_number:  # only compiling finds a wrong number of layers
        assert run_here("verify", folder).returncode == 4


@pytest.mark.slow
def test_a_missing_or_empty_model_folder_is_an_error(images: Path, tmp_path: Path, run_here: RunHere) -> None:
    assert b"no model folder" in run_here("ask", "--model", tmp_path / "none", images / "shelf.png").stderr
    done = run_here("ask", "--model", tmp_path, images / "shelf.png")
    assert done.returncode == 4
    assert b"vlrun export" in done.stderr


@pytest.mark.fault(42)
def test_read_only_home_still_answers(images: Path, small_model: Path) -> None:
    """No writable cache folder, and no HOME."""
    done = vlrun(
        "ask", "--model", small_model, images / "shelf.png", "--max-tokens", "2", home=Path("/proc/none"), HOME=""
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.fault(53)
@pytest.mark.parametrize("cli_args", [("ask", EXAMPLES / "shelf.png", "How many bottles are there?"), ("verify",)])
def test_an_unknown_user_without_a_home_directory_is_served(tmp_path: Path, cli_args: tuple[str | Path, ...]) -> None:
    program = "import pwd; pwd.getpwuid = {}.__getitem__; from vlrun.cli import main; main()"
    environment = {"PYTHONPATH": str(RUNTIME), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, cli_args)],
        capture_output=True, env=environment, cwd=tmp_path, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout == b"6\n" or cli_args == ("verify",)
    assert (b"there is no home directory" in done.stderr) == (cli_args != ("verify",))
    assert not list(tmp_path.iterdir())


def test_closed_pipe_and_full_disk_end_without_a_stack_trace(images: Path, small_model: Path) -> None:
    """`| head` and a full disk have documented exit codes."""
    arguments, environment = command(
        ["ask", "--model", small_model, images / "shelf.png", "--seed", "1"], images / "cache"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == b""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
    assert done.returncode == 8
    assert done.stderr.decode() == "vlrun: cannot write or read: No space left on device\n"


# The file whose mapping into the process marks the moment ("": the first text), and the seconds to wait after it.
INTERRUPTS = [("_pyopenvino", 0.0), ("decoder.bin", 0.0), ("decoder.bin", 0.3), ("", 0.0), ("", 0.5)]


@pytest.mark.parametrize(("mapped", "after"), INTERRUPTS)
def test_ctrl_c_ends_at_once(images: Path, small_model: Path, mapped: str, after: float) -> None:
    """During import, compilation, vision encoding and decoding, also of a video."""
    sources = [images / "shelf.png", *([EXAMPLES / "ball.mp4"] if find_spec("av") else [])]
    arguments, environment = command(
        ["ask", "--model", small_model, *sources, "Go on.", "--max-tokens", "100000"], images / "cache"
    )
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    wait_for_interrupt_point(process, mapped)
    time.sleep(after)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    if process.returncode != 0:  # a model with random weights may end its answer early
        assert (process.returncode, stderr.strip()) == (130, b"vlrun: interrupted")
    assert time.monotonic() - began < 5


def wait_for_interrupt_point(process: subprocess.Popen[bytes], mapped: str) -> None:
    assert process.stdout is not None
    if not mapped:
        process.stdout.read(1)
        return
    while process.poll() is None and mapped not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.005)


@pytest.mark.usefixtures("one_model")
def test_stderr_has_only_the_note_about_a_truncated_answer(images: Path, ask_here: RunHere) -> None:
    done = ask_here(images / "shelf.png", "--max-tokens", "3", "--seed", "2")
    assert done.stderr == b"vlrun: the answer was cut short (length)\n"


def test_garbage_on_stdin_is_refused(images: Path, ask_here: RunHere) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, "PNG")
    assert ask_here("-", stdin=buffer.getvalue()[:40]).returncode == 3
    assert ask_here("-", stdin=os.urandom(1000)).returncode == 3


def test_no_telemetry_is_loaded(images: Path, small_model: Path, tmp_path: Path) -> None:
    """Importing OpenVINO starts its telemetry, which sends data without consent and stores a client id."""
    cli_args = ["ask", "--model", str(small_model), str(images / "shelf.png"), "--max-tokens", "1"]
    program = (
        "import sys, os, atexit; import vlrun.cli as cli; sys.argv[1:] = " + repr(cli_args) + ";"
        "cli.main();"
        "print([name for name, module in sys.modules.items() if 'openvino_telemetry' in name and module])"
    )
    environment = {**os.environ, "PYTHONPATH": str(RUNTIME), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, env=environment, timeout=120, check=True
    )
    assert done.stdout.endswith(b"[]\n"), done
    assert not (tmp_path / "intel").exists()
