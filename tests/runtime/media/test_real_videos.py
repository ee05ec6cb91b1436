"""Two real videos, which are not part of the repository, compared with transformers from the file to the token ids.

``VLRUN_VIDEOS`` names a folder with them: vtest.avi of Debian's package opencv-doc (79 seconds of a fixed camera) and
cockatoo.mp4 of python3-imageio (14 seconds, 720p); ``apt-get download`` and ``dpkg -x`` unpack both without root.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the workbench packages")
pytest.importorskip("transformers", reason="needs the workbench packages")

import av
import torch
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor, smart_resize

from tests.paths import RUNTIME
from tests.published import PUBLISHED, THINKING_TEMPLATE, needs_published
from tests.runtime.prompt.test_visual_tokens import Processor, template_of
from vlrun import manifest as manifests
from vlrun.embedded import FOLDER
from vlrun.media.clip import Clip
from vlrun.models.qwen3_vl.positions import token_positions
from vlrun.prompt.builder import PromptBuilder
from vlrun.types.options import Options
from vlrun.types.video_rules import PUBLISHED_RULES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("VLRUN_VIDEOS" not in os.environ, reason="VLRUN_VIDEOS names no folder with the real videos"),
]

VIDEOS = {"vtest.avi": (795, 10.0, 768, 576), "cockatoo.mp4": (280, 20.0, 1280, 720)}
"""Frames, frame rate, width, height."""
QUESTION = "What happens?"
MAX_ERROR = 2
"""Of 255: torch and Pillow round bicubic resizing differently."""


def path_of(name: str) -> Path:
    (path,) = Path(os.environ["VLRUN_VIDEOS"]).rglob(name)
    return path


def all_frames(name: str, wanted: Sequence[int]) -> list[np.ndarray]:
    """Decode a video from its first frame to its last one, as transformers does with PyAV."""
    chosen = set(wanted)
    with av.open(path_of(name)) as container:
        frames = enumerate(container.decode(video=0))
        return [frame.to_ndarray(format="rgb24") for index, frame in frames if index in chosen]


@needs_published
@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("source", [PUBLISHED / "chat_template.jinja", THINKING_TEMPLATE], ids=["instruct", "thinking"])
def test_frames_grid_times_ids_and_positions_equal_transformers(name: str, source: Path) -> None:
    total, fps, width, height = VIDEOS[name]
    tiny = manifests.read(FOLDER)
    template = template_of(PUBLISHED, source)
    ids = {name: template.control_token(f"<|{name}|>") or 0 for name in ("image_pad", "video_pad")}
    tokens = replace(tiny.tokens, image=ids["image_pad"], video=ids["video_pad"])
    text = replace(tiny.text, max_positions=262_144, vocab_size=151_936)
    builder = PromptBuilder(replace(tiny, text=text, tokens=tokens, video=PUBLISHED_RULES), template)
    turn = builder.question_turn(path_of(name), QUESTION, Options(detail="high"), None)
    built = builder.build([turn], Options(detail="high"))
    clip = turn.parts[0]
    assert isinstance(clip, Clip)

    processor = SimpleNamespace(fps=2, min_frames=4, max_frames=768)
    metadata = SimpleNamespace(total_num_frames=total, fps=fps)
    indices = Qwen3VLVideoProcessor.sample_frames(processor, metadata).tolist()
    times = Qwen3VLProcessor._calculate_timestamps(SimpleNamespace(), list(indices), fps)
    assert list(clip.seconds) == times
    high, wide = smart_resize(len(indices), height, width, 2, 32, 4096, 25_165_824)
    assert {(grid.height * 16, grid.width * 16) for _, grid in built.images} == {(high, wide)}
    frames = torch.from_numpy(np.stack(all_frames(name, indices))).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(frames, (high, wide), mode="bicubic", antialias=True)
    ours = np.concatenate([pair.frames for pair in clip.pairs])[: len(indices)].astype(int)
    assert np.abs(ours - expected.permute(0, 2, 3, 1).numpy()).max() <= MAX_ERROR

    reference: Any = Processor(PUBLISHED, source)
    grid = built.images[0][1].tokens
    reference_ids = reference.ids([(tuple(indices), grid, fps), QUESTION])
    assert list(built.prompt.ids) == reference_ids
    _check_positions(built.prompt, [grid for _, grid in built.images], ids, template)


def _check_positions(prompt: Any, grids: Any, ids: dict[str, int], template: Any) -> None:
    import transformers

    start, end = (template.control_token(f"<|vision_{one}|>") for one in ("start", "end"))
    config = transformers.Qwen3VLConfig(
        image_token_id=ids["image_pad"], video_token_id=ids["video_pad"], vision_start_token_id=start,
        vision_end_token_id=end,
    )  # fmt: skip
    rope_index = transformers.models.qwen3_vl.modeling_qwen3_vl.Qwen3VLModel.get_rope_index
    tokens = torch.tensor([list(prompt.ids)])
    whole = torch.tensor([[len(grids), grids[0].height, grids[0].width]])
    expected, _ = rope_index(SimpleNamespace(config=config), tokens, None, whole, torch.ones_like(tokens))
    ours = token_positions(len(prompt.ids), list(zip(prompt.image_offsets, grids, strict=True)))
    np.testing.assert_array_equal(ours, expected[:, 0].numpy())


def test_peak_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    """The surveillance video, and ten of it in a row, with the embedded model; in processes of their own."""
    long = tmp_path / "long.avi"
    _repeat(path_of("vtest.avi"), long, 10)
    for options in ("{}", "{'keyframes': True}"):
        peaks = [_peak(path, options) for path in (path_of("vtest.avi"), long)]
        print(f"peak memory with {options}: {peaks[0]:.0f} and {peaks[1]:.0f} MiB")
        assert peaks[1] < peaks[0] + 40


def _repeat(source: Path, target: Path, times: int) -> None:
    """Write a video several times in a row, without encoding it again."""
    with av.open(target, "w") as out:
        written = None
        for number in range(times):
            with av.open(source) as container:
                stream = container.streams.video[0]
                written = written or out.add_stream_from_template(stream)
                for index, packet in enumerate(container.demux(stream)):
                    if packet.dts is None:
                        continue
                    packet.pts = packet.dts = number * 795 + index
                    packet.stream = written
                    out.mux(packet)


def _peak(path: Path, options: str) -> float:
    """Return the peak memory in MiB of a process that asks about a video."""
    code = (
        f"import vlrun\nvlm = vlrun.load()\nvideo = vlrun.Video({os.fspath(path)!r}, **{options})\n"
        "vlm.ask(video, 'What moves?', vlrun.Options(max_tokens=2))\n"
        "print(*(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    environment = os.environ | {"PYTHONPATH": str(RUNTIME)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout) / 1024  # ru_maxrss would be that of this process, from which it was forked
