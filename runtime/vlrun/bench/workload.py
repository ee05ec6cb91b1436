"""The benchmark's workload: load, a text, new images, the same image again.

    python -m vlrun.bench.workload MODEL [--began SECONDS] [--rounds N] [--tokens N] [--only PART] [--setting PRECISION]

Prints each sample as a line of JSON: a list of figure and value. Peers run the same workload through their own
interfaces (``benchmarks.peers``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from vlrun import VLM, Hints, Options

TEXT = "Name three colours."
QUESTIONS = ("Describe this image in detail.", "How many bottles are there?", "What is written here?")
IMAGE_SIZE = (1024, 768)
"""Width and height; 768 visual tokens of Qwen3-VL."""
WARM_UP_IMAGE = 1_000_000
"""Number of an image that is not measured."""
CONCURRENT = 4
MIB = 2**20


class SampleWriter:
    """Prints samples. ``began``: start of the process in seconds since the epoch."""

    def __init__(self, began: float) -> None:
        self._began = began

    def add(self, figure: str, value: float) -> None:
        """Print one sample: seconds, bytes, tokens or tokens per second."""
        sys.stdout.write(json.dumps([figure, value]) + "\n")
        sys.stdout.flush()

    def add_since_start(self, figure: str) -> None:
        """Print the seconds since the start of the process."""
        self.add(figure, time.time() - self._began)

    @contextmanager
    def timed(self, figure: str) -> Iterator[None]:
        """Print the seconds that the block takes."""
        began = time.perf_counter()
        yield
        self.add(figure, time.perf_counter() - began)

    def add_memory(self, process: int | str = "self") -> None:
        """Print the current and the peak resident memory of a process, with mapped files."""
        status = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
            if ":" in line
        )
        self.add("steady", int(status["VmRSS"].split()[0]) * 1024)
        self.add("peak", int(status["VmHWM"].split()[0]) * 1024)


def image(number: int) -> Image.Image:
    """Return smooth coloured noise, different for each number."""
    rng = np.random.default_rng([1024, number])
    return Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(IMAGE_SIZE, Image.Resampling.BICUBIC)


def parse_arguments(description: str) -> argparse.Namespace:
    """Parse the options that all workloads share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", type=Path)
    parser.add_argument("--began", type=float, default=time.time(), help="start of the process in epoch seconds")
    parser.add_argument("--rounds", type=int, default=3, help="images")
    parser.add_argument("--tokens", type=int, default=32, help="tokens per answer")
    parser.add_argument("--only", default="", choices=["text", "keep", "disk"], help="one part; only vlrun has these")
    parser.add_argument("--setting", default="", help="hints or precision, specific to each runtime")
    return parser.parse_args()


def main() -> None:
    """Run the workload with vlrun. ``--setting``: the precision of the vision encoder."""
    options = parse_arguments("The benchmark's workload, run by vlrun.")
    parts = {"": _run_images, "text": _run_text, "keep": _run_disk, "disk": _run_disk}
    parts[options.only](options, SampleWriter(options.began))


def _run_images(options: argparse.Namespace, samples: SampleWriter) -> None:
    """Measure loading, new images, further questions about each, and concurrent answers."""
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
        samples.add("tokens_per_second_one", _tokens_per_second(vlm, greedy, 1))
        samples.add("tokens_per_second_four", _tokens_per_second(vlm, greedy, CONCURRENT))
    vlm.close()


def _run_text(options: argparse.Namespace, samples: SampleWriter) -> None:
    """Measure the time from the start of the process to the first token."""
    import vlrun

    with vlrun.load(options.model, hints=_hints(options), wait=False) as vlm:
        vlm.ask([], TEXT, _greedy(1))
        samples.add_since_start("start_to_text")


def _run_disk(options: argparse.Namespace, samples: SampleWriter) -> None:
    """Ask about an image with the prefix cache on disk: ``keep`` fills it, ``disk`` uses it."""
    import vlrun

    with vlrun.load(options.model, hints=_hints(options), cache=vlrun.CacheConfig(kv_disk=1024 * MIB)) as vlm:
        answer = vlm.ask(image(0), QUESTIONS[0], _greedy(options.tokens))
        if options.only == "disk":
            samples.add("ttft_disk", answer.timings.ttft)


def _greedy(tokens: int) -> Options:
    """Return options for greedy decoding of one token per pass, without early ends.

    With detail "high" the prompt has the same length on every machine: a limit for slow ones does not apply.
    """
    import vlrun

    return vlrun.Options(
        temperature=0,
        max_tokens=tokens,
        presence_penalty=0,
        repetition_guard=False,
        prompt_lookup=False,
        detail="high",
    )


def _hints(options: argparse.Namespace) -> Hints:
    import vlrun

    return vlrun.Hints(vision_precision=options.setting) if options.setting else vlrun.Hints()


def _tokens_per_second(vlm: VLM, options: Options, concurrent: int) -> float:
    with ThreadPoolExecutor(concurrent) as pool:
        began = time.perf_counter()
        answers = list(pool.map(lambda _: vlm.ask(image(0), QUESTIONS[1], options), range(concurrent)))
        return sum(answer.usage.completion_tokens for answer in answers) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
