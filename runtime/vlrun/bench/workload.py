"""The workload that every participant of the benchmark runs: load, a text, new images, the same image again.

    python -m vlrun.bench.workload MODEL [--began SECONDS] [--rounds N] [--tokens N] [--only PART] [--setting PRECISION]

Prints every sample as it is measured, a JSON list of figure and value on a line of its own. Peers run the same workload
through their own interfaces (``benchmarks.peers``) with the prompts, images and names of figures defined here.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from vlrun import Hints, Options

TEXT = "Name three colours."
QUESTIONS = ("Describe this image in detail.", "How many bottles are there?", "What is written here?")
IMAGE_SIZE = (1024, 768)
"""Width and height: 768 visual tokens of Qwen3-VL."""
WARM_UP_IMAGE = 1_000_000
"""Number of the image that is not measured."""
CONCURRENT = 4
MIB = 2**20


class SampleWriter:
    """Prints samples. ``began``: when the process was started, in seconds since the epoch."""

    def __init__(self, began: float) -> None:
        self._began = began

    def add(self, figure: str, value: float) -> None:
        """Print one sample: seconds, bytes, tokens or tokens per second."""
        sys.stdout.write(json.dumps([figure, value]) + "\n")
        sys.stdout.flush()

    def add_since_start(self, figure: str) -> None:
        """Print the seconds since the process was started."""
        self.add(figure, time.time() - self._began)

    @contextmanager
    def timed(self, figure: str) -> Iterator[None]:
        """Print the seconds that the block takes."""
        began = time.perf_counter()
        yield
        self.add(figure, time.perf_counter() - began)

    def add_memory(self, process: int | str = "self") -> None:
        """Print the resident memory of a process, now and at its peak, mapped files included."""
        status = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
            if ":" in line
        )
        self.add("steady", int(status["VmRSS"].split()[0]) * 1024)
        self.add("peak", int(status["VmHWM"].split()[0]) * 1024)


def image(number: int) -> Image.Image:
    """Smooth coloured noise, different for each number."""
    rng = np.random.default_rng([1024, number])
    return Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(IMAGE_SIZE, Image.Resampling.BICUBIC)


def parse_arguments(description: str) -> argparse.Namespace:
    """Parse the options that the workloads of all participants share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", type=Path)
    parser.add_argument("--began", type=float, default=time.time(), help="when the process was started")
    parser.add_argument("--rounds", type=int, default=3, help="images")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of each answer")
    parser.add_argument("--only", default="", choices=["text", "keep", "disk"], help="one part; only vlrun has these")
    parser.add_argument("--setting", default="", help="hints or a precision, as the participant reads it")
    return parser.parse_args()


def main() -> None:
    """Run the workload with vlrun. ``--setting``: the precision of the vision encoder."""
    options = parse_arguments("The benchmark's workload, run by vlrun.")
    parts = {"": _run_images, "text": _run_text, "keep": _run_disk, "disk": _run_disk}
    parts[options.only](options, SampleWriter(options.began))


def _run_images(options: argparse.Namespace, samples: SampleWriter) -> None:
    """Load, new images, further questions on each, and concurrent answers."""
    import vlrun

    greedy = _greedy(options.tokens)
    with samples.timed("load"):
        vlm = vlrun.load(options.model, hints=_hints(options))
    vlm.ask([], TEXT, _greedy(1))
    vlm.ask(image(WARM_UP_IMAGE), QUESTIONS[0], greedy)
    for number in range(options.rounds):
        answer = vlm.ask(image(number), QUESTIONS[0], greedy)
        samples.add("prompt_tokens", answer.usage.prompt_tokens)
        samples.add("ttft_new", answer.timings.ttft)
        samples.add("vision", answer.timings.vision)
        samples.add("prefill", answer.timings.prefill)
        if answer.timings.tpot is not None:
            samples.add("tpot", answer.timings.tpot)
        for question in QUESTIONS[1:]:
            samples.add("ttft_again", vlm.ask(image(number), question, greedy).timings.ttft)
    samples.add_memory()
    for _ in range(options.rounds):
        one = _tokens_per_second(lambda: vlm.ask(image(0), QUESTIONS[1], greedy).usage.completion_tokens, 1)
        four = _tokens_per_second(lambda: vlm.ask(image(0), QUESTIONS[1], greedy).usage.completion_tokens, CONCURRENT)
        samples.add("tokens_per_second_one", one)
        samples.add("tokens_per_second_four", four)
    vlm.close()


def _run_text(options: argparse.Namespace, samples: SampleWriter) -> None:
    """Start and generate one token."""
    import vlrun

    with vlrun.load(options.model, hints=_hints(options), wait=False) as vlm:
        vlm.ask([], TEXT, _greedy(1))
        samples.add_since_start("start_to_text")


def _run_disk(options: argparse.Namespace, samples: SampleWriter) -> None:
    """Ask about an image with the prefix cache on disk: ``keep`` fills it, ``disk`` starts from it."""
    import vlrun

    with vlrun.load(options.model, hints=_hints(options), cache=vlrun.CacheConfig(kv_disk=1024 * MIB)) as vlm:
        answer = vlm.ask(image(0), QUESTIONS[0], _greedy(options.tokens))
        if options.only == "disk":
            samples.add("ttft_disk", answer.timings.ttft)


def _greedy(tokens: int) -> Options:
    """Greedy, one token a pass, without early ends."""
    import vlrun

    return vlrun.Options(
        temperature=0, max_tokens=tokens, presence_penalty=0, repetition_guard=False, prompt_lookup=False
    )


def _hints(options: argparse.Namespace) -> Hints:
    import vlrun

    return vlrun.Hints(vision_precision=options.setting) if options.setting else vlrun.Hints()


def _tokens_per_second(ask: Callable[[], int], concurrent: int) -> float:
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(ask())) for _ in range(concurrent)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
