"""Compares the time to the first token of a clip of 16 frames: vlrun, openvino-genai and transformers, same frames.

    python -m benchmarks.video MODEL --clip FILE [--optimum DIR] [--checkpoint DIR] [--turns N]

MODEL is vlrun's. vlrun's time includes reading and decoding the file; the peers get the frames that vlrun samples, in
the size that it shows. "vlrun ask" is a single question as on the command line: its time includes loading the model,
which the other times do not. Each participant runs in a process of its own, in turn, and each sample is printed as it
is measured. Exit codes: 0 done, 1 a participant failed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import vlrun
from vlrun.bench.workload import SampleWriter

FRAMES = 16
QUESTION = "What happens in this video?"
FIGURES = ("ttft", "peak", "prompt_tokens")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, or run one participant, and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    if options.run:
        _PARTICIPANTS[options.run](options, SampleWriter(time.time()))
        return 0
    peers = {"openvino-genai": options.optimum, "transformers": options.checkpoint}
    names = ["vlrun", "vlrun ask", *(name for name, folder in peers.items() if folder)]
    samples: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in names}
    failed = False
    for turn in range(options.turns):
        for name in names:
            command = [sys.executable, "-m", "benchmarks.video", *given, "--run", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            failed |= done.returncode != 0
            for line in done.stdout.splitlines():
                figure, value = json.loads(line)
                samples[name][figure].append(value)
                print(f"turn {turn + 1}: {name}: {figure} {value:.6g}", flush=True)
    print(_report(samples))
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compares the time to the first token of a clip.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--optimum", type=Path, help="the model as optimum-cli exports it")
    parser.add_argument("--checkpoint", type=Path, help="the model as transformers loads it, in bfloat16")
    parser.add_argument("--max-pixels", type=int, default=128 * 32 * 32, help="width x height of a frame")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--run", choices=sorted(_PARTICIPANTS), help=argparse.SUPPRESS)
    return parser


def _report(samples: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Return a table of medians, and of their ratios to vlrun's."""
    medians = {
        name: {figure: statistics.median(values) for figure, values in figures.items()}
        for name, figures in samples.items()
    }
    rows = [
        "| | TTFT | of vlrun's | memory, peak | of vlrun's | prompt tokens |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    ours = medians["vlrun"]
    for name, found in medians.items():
        if not set(FIGURES) <= found.keys() & ours.keys():
            rows.append(f"| {name} | failed | | | | |")
            continue
        ttft, peak, tokens = (found[figure] for figure in FIGURES)
        rows.append(
            f"| {name} | {ttft:.1f} s | {ttft / ours['ttft']:.2f} | {peak / 2**30:.1f} GiB "
            f"| {peak / ours['peak']:.2f} | {tokens:.0f} |"
        )
    return "\n".join(rows)


def _video(options: argparse.Namespace) -> vlrun.Video:
    return vlrun.Video(options.clip, max_frames=FRAMES, max_pixels=options.max_pixels)


def _run_vlrun(options: argparse.Namespace, samples: SampleWriter) -> None:
    """Ask as a user would: decode, sample, encode and prefill."""
    with vlrun.load(options.model) as vlm:
        vlm.ask([], QUESTION, vlrun.Options(max_tokens=1))
        began = time.perf_counter()
        chunks = vlm.stream(_video(options), QUESTION, vlrun.Options(max_tokens=1, temperature=0))
        answers = [chunk.answer for chunk in chunks if chunk.answer]
        samples.add("ttft", time.perf_counter() - began)
        samples.add("prompt_tokens", answers[-1].usage.prompt_tokens)
    samples.add_memory()


def _run_ask(options: argparse.Namespace, samples: SampleWriter) -> None:
    """Load and ask once, as ``vlrun ask`` does."""
    began = time.perf_counter()
    with vlrun.load(options.model, cache=vlrun.CacheConfig(keep_vision_encoder=False), wait=False) as vlm:
        answer = vlm.ask(_clip(options), QUESTION, vlrun.Options(max_tokens=1, temperature=0))
        samples.add("ttft", time.perf_counter() - began)
        samples.add("prompt_tokens", answer.usage.prompt_tokens)
    samples.add_memory()


def _run_genai(options: argparse.Namespace, samples: SampleWriter) -> None:
    """Use openvino-genai's own metrics, because its streamer may deliver text late."""
    import openvino
    import openvino_genai

    pipeline = openvino_genai.VLMPipeline(str(options.optimum), "CPU")
    pipeline.generate("Hi", max_new_tokens=1, do_sample=False)
    frames = openvino.Tensor(_frames(options))
    answer = pipeline.generate(QUESTION, videos=[frames], max_new_tokens=1, do_sample=False, ignore_eos=True)
    samples.add("ttft", answer.perf_metrics.get_ttft().mean / 1000)
    samples.add("prompt_tokens", answer.perf_metrics.get_num_input_tokens())
    samples.add_memory()


def _run_transformers(options: argparse.Namespace, samples: SampleWriter) -> None:
    """Run the model alone, on patches and ids that vlrun prepares: its video processor needs torchvision."""
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    inputs = {name: torch.from_numpy(value) for name, value in _inputs(options).items()}
    model = Qwen3VLForConditionalGeneration.from_pretrained(options.checkpoint, dtype=torch.bfloat16).eval()
    began = time.perf_counter()
    model.generate(**inputs, max_new_tokens=1, do_sample=False)
    samples.add("ttft", time.perf_counter() - began)
    samples.add("prompt_tokens", inputs["input_ids"].shape[1])
    samples.add_memory()


def _clip(options: argparse.Namespace) -> vlrun.Clip:
    return vlrun.open_video(_video(options))


def _frames(options: argparse.Namespace) -> npt.NDArray[np.uint8]:
    """Return the frames ``[frames, height, width, 3]``."""
    return np.concatenate([pair.frames for pair in _clip(options).pairs])


def _inputs(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of transformers' model."""
    from vlrun.vision.patches import cut

    with vlrun.load(options.model) as vlm:
        turn = vlrun.Turn("user", (_clip(options), QUESTION))
        built = vlm.build_prompt([turn])
        manifest = vlm.manifest
    patches = [cut(image, grid, manifest.preprocessing, manifest.vision).pixels for image, grid in built.images]
    grid = built.images[0][1]
    ids = np.array([built.prompt.ids], np.int64)
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "pixel_values_videos": np.concatenate(patches),
        "video_grid_thw": np.array([[len(patches), grid.height, grid.width]], np.int64),
    }


_PARTICIPANTS = {
    "vlrun": _run_vlrun,
    "vlrun ask": _run_ask,
    "openvino-genai": _run_genai,
    "transformers": _run_transformers,
}


if __name__ == "__main__":
    sys.exit(main())
