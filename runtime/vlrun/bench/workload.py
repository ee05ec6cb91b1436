"""The course that every participant runs, in a process of its own: load, text, new images, the same image again.

    python -m vlrun.bench.workload MODEL --began SECONDS [--rounds N] [--tokens N] [--only PART] [--setting client]

Prints one JSON object of samples. Peers run the same course with their own interfaces (``benchmarks.peers``); the
prompts, the images and the names of the figures stand here. Knows the public interface of vlrun alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import defaultdict
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
WARM_UP = 1_000_000
"""Number of the image that is not measured."""
TOGETHER = 4
CLIENT = "client"
"""The setting that imitates a client CPU, with ``CLIENT_ENVIRONMENT``: no bf16, so f32 for both halves."""
CLIENT_ENVIRONMENT = {"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI"}
MIB = 2**20


class Samples:
    """Seconds, bytes or ratios by the name of the figure."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._found: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        """One more sample."""
        self._found[name].append(value)

    def since_start(self, name: str) -> None:
        """The time since the process was started."""
        self.add(name, time.time() - self._began)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """The time of a block."""
        began = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - began)

    def memory(self, process: int | str = "self") -> None:
        """Resident memory of a process now and at the peak, mapped files included."""
        status = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
            if ":" in line
        )
        self.add("steady", int(status["VmRSS"].split()[0]) * 1024)
        self.add("peak", int(status["VmHWM"].split()[0]) * 1024)

    def print(self) -> None:
        """One JSON object, the last line of stdout."""
        sys.stdout.write(json.dumps(self._found) + "\n")
        sys.stdout.flush()


def image(number: int) -> Image.Image:
    """Smooth coloured noise, another for each number."""
    rng = np.random.default_rng([1024, number])
    return Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(IMAGE_SIZE, Image.Resampling.BICUBIC)


def arguments(description: str) -> argparse.Namespace:
    """The options that all courses share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", type=Path)
    parser.add_argument("--began", type=float, default=time.time(), help="when the process was started")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--only", default="", choices=["text", "keep", "disk"], help="a part that vlrun alone runs")
    parser.add_argument("--setting", default="", help="hints, precision or the like, as the participant reads it")
    return parser.parse_args()


def main() -> None:
    """Run the course with vlrun."""
    options = arguments("The benchmark's course, run by vlrun.")
    samples = Samples(options.began)
    {"": _course, "text": _text, "keep": _disk, "disk": _disk}[options.only](options, samples)
    samples.print()


def _course(options: argparse.Namespace, samples: Samples) -> None:
    """The whole course."""
    import vlrun

    plain = _plain(options.tokens)
    with samples.timed("load"):
        vlm = vlrun.load(options.model, hints=_hints(options))
    vlm.ask([], TEXT, _plain(1))
    vlm.ask(image(WARM_UP), QUESTIONS[0], plain)
    for number in range(options.rounds):
        answer = vlm.ask(image(number), QUESTIONS[0], plain)
        samples.add("prompt_tokens", answer.usage.prompt_tokens)
        samples.add("ttft_new", answer.timings.ttft)
        samples.add("vision", answer.timings.vision)
        samples.add("prefill", answer.timings.prefill)
        if answer.timings.tpot is not None:
            samples.add("tpot", answer.timings.tpot)
        for question in QUESTIONS[1:]:
            samples.add("ttft_again", vlm.ask(image(number), question, plain).timings.ttft)
    samples.memory()
    for _ in range(options.rounds):
        one = _tokens_per_second(lambda: vlm.ask(image(0), QUESTIONS[1], plain).usage.completion_tokens, 1)
        four = _tokens_per_second(lambda: vlm.ask(image(0), QUESTIONS[1], plain).usage.completion_tokens, TOGETHER)
        samples.add("tokens_per_second_one", one)
        samples.add("tokens_per_second_four", four)
    vlm.close()


def _text(options: argparse.Namespace, samples: Samples) -> None:
    """Start, and say one token."""
    import vlrun

    with vlrun.load(options.model, hints=_hints(options), wait=False) as vlm:
        vlm.ask([], TEXT, _plain(1))
        samples.since_start("start_to_text")


def _disk(options: argparse.Namespace, samples: Samples) -> None:
    """Ask about an image, with the cache on disk: ``keep`` it there, or start from it."""
    import vlrun

    with vlrun.load(options.model, hints=_hints(options), cache=vlrun.CacheConfig(kv_disk=1024 * MIB)) as vlm:
        answer = vlm.ask(image(0), QUESTIONS[0], _plain(options.tokens))
        if options.only == "disk":
            samples.add("ttft_disk", answer.timings.ttft)


def _plain(tokens: int) -> Options:
    """Greedy, one token a pass, to the end."""
    import vlrun

    return vlrun.Options(
        temperature=0, max_tokens=tokens, presence_penalty=0, repetition_guard=False, prompt_lookup=False
    )


def _hints(options: argparse.Namespace) -> Hints:
    import vlrun

    return vlrun.Hints(vision_precision="f32") if options.setting == CLIENT else vlrun.Hints()


def _tokens_per_second(ask: Callable[[], int], together: int) -> float:
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(ask())) for _ in range(together)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
