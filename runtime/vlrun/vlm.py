"""The whole story: pictures and a question in, an answer out.

``VLM.stream`` is where a newcomer starts reading. Command line, service and benchmark all consume it, and nothing else
touches the decoder. Knows neither click nor HTTP.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import numpy as np

from vlrun import manifest as manifests
from vlrun.answer import Answer, Chunk, FinishReason, Options, Timings, Usage
from vlrun.embedded import FOLDER
from vlrun.engine.engine import Engine, Request
from vlrun.engine.sampler import FloatRows
from vlrun.errors import ContextLengthExceeded, OptionError
from vlrun.manifest import Manifest
from vlrun.media.image import Picture, PictureSource, open_picture
from vlrun.model.decoder import Decoder, VisualRows
from vlrun.model.device import Hints, open_device
from vlrun.model.patches import Patches, cut
from vlrun.model.positions import token_positions
from vlrun.model.vision import VisionEncoder
from vlrun.text.detokenizer import Detokenizer, StopStrings
from vlrun.text.template import ChatTemplate, Message, PicturePart, Prompt, load_tokenizer
from vlrun.verification import verify

DEFAULT_QUESTION = "Describe this image."
DEFAULT_CONTEXT = 32768
"""Tokens of KV cache where the model allows more; memory is taken only as the cache fills."""

Pictures: TypeAlias = PictureSource | Sequence[PictureSource]


def load(
    folder: str | os.PathLike[str] | None = None, *, hints: Hints | None = None, context: int = DEFAULT_CONTEXT
) -> VLM:
    """Load a model folder, or the embedded model if none is given. ``context``: tokens that prompt and answer may have.

    Raises ModelError for a folder that cannot be used, DeviceError for a device that is not there.
    """
    return VLM(Path(folder) if folder is not None else FOLDER, hints or Hints(), context)


class VLM:
    """A vision-language model, ready to answer."""

    def __init__(self, folder: Path, hints: Hints, context: int) -> None:
        began = time.perf_counter()
        if context < 1:
            raise OptionError(f"context must be at least 1 token, not {context}")
        self.manifest: Manifest = manifests.read(folder)
        self.context = min(context, self.manifest.text.max_positions)
        verify(self.manifest, folder)
        tokenizer = load_tokenizer(folder / manifests.TOKENIZER)
        template = (folder / manifests.CHAT_TEMPLATE).read_text(encoding="utf-8")
        self._tokenizer = tokenizer
        self._template = ChatTemplate(template, tokenizer, self.manifest.tokens.image)
        self._vision, decoder = _compile(folder, self.manifest, hints, self.context)
        self._engine = Engine(decoder, self.manifest.text.vocab_size)
        self._load_seconds = time.perf_counter() - began

    def ask(self, pictures: Pictures, question: str = DEFAULT_QUESTION, options: Options | None = None) -> Answer:
        """The answer to a question about one picture, several, or none (an empty list).

        Raises MediaError, OptionError or ContextLengthExceeded.
        """
        return [chunk.answer for chunk in self.stream(pictures, question, options) if chunk.answer][-1]

    def stream(
        self, pictures: Pictures, question: str = DEFAULT_QUESTION, options: Options | None = None
    ) -> Iterator[Chunk]:
        """The answer as it comes; the last chunk carries the whole. Closing the iterator stops the work.

        Pictures and question are checked at once, the work begins with the first chunk. Raises as ``ask`` does.
        """
        began = time.perf_counter()
        options = options or Options()
        prompt, patches = self._prepare(pictures, question, options)
        return self._answer(prompt, patches, options, time.perf_counter() - began)

    def score(self, pictures: Pictures, question: str, answer: str) -> FloatRows:
        """Logits before each token of a given answer and before its end, ``[tokens + 1, vocab_rows]``: how likely the
        model finds that answer. Raises as ``ask`` does.
        """
        options = Options()
        prompt, patches = self._prepare(pictures, question, options)
        tokens = [*self._template.encode_text(answer), self.manifest.tokens.eos[0]]
        return self._engine.score(self._request(prompt, patches, options), tokens)

    def _prepare(self, pictures: Pictures, question: str, options: Options) -> tuple[Prompt, list[Patches]]:
        """Everything that can be wrong with a request is found here, before the model works."""
        text: object = question  # None would be rendered as a picture
        if not isinstance(text, str) or not text.strip():
            raise OptionError("the question must be a text that is not empty")
        patches = [self._cut(open_picture(source), options) for source in _listed(pictures)]
        message = Message("user", (*(PicturePart() for _ in patches), question))
        prompt = self._template.encode([message], [cut.grid.tokens for cut in patches])
        self._check_room(prompt, patches)
        return prompt, patches

    def _answer(
        self, prompt: Prompt, patches: Sequence[Patches], options: Options, preprocess: float
    ) -> Iterator[Chunk]:
        began = time.perf_counter()
        request = self._request(prompt, patches, options)
        vision = time.perf_counter() - began
        seconds: list[float] = []
        text: list[str] = []
        finish: FinishReason = "length"
        detokenizer, stops = Detokenizer(self._tokenizer), StopStrings(options.stop)
        with closing(_timed(self._engine.generate(request), seconds)) as tokens:
            for token in tokens:
                if token in request.eos:
                    finish = "stop"
                    break
                if piece := stops.push(detokenizer.push(token)):
                    text.append(piece)
                    yield Chunk(piece)
                if stops.found:
                    finish = "stop"
                    break
        last = stops.push(detokenizer.flush()) + stops.flush()
        usage = Usage(len(prompt.ids), sum(cut.grid.tokens for cut in patches), len(seconds))
        timings = self._timings(preprocess, vision, seconds)
        yield Chunk(last, Answer("".join([*text, last]), finish, usage, timings))

    def _cut(self, picture: Picture, options: Options) -> Patches:
        vision = self.manifest.vision
        token_pixels = (vision.patch * vision.merge) ** 2
        budget = options.max_image_tokens * token_pixels
        if budget < self.manifest.preprocessing.min_pixels:
            least = -(-self.manifest.preprocessing.min_pixels // token_pixels)
            raise OptionError(f"max_image_tokens is {options.max_image_tokens}, but this model needs at least {least}")
        return cut(picture, self.manifest.preprocessing, vision, budget)

    def _request(self, prompt: Prompt, patches: Sequence[Patches], options: Options) -> Request:
        """Encode the pictures and put everything together for the engine."""
        grids = [cut.grid for cut in patches]
        visuals = [
            VisualRows(start, self._vision.encode(cut)) for start, cut in zip(prompt.slots, patches, strict=True)
        ]
        return Request(
            ids=np.array(prompt.ids, np.int64),
            positions=token_positions(len(prompt.ids), list(zip(prompt.slots, grids, strict=True))),
            visuals=tuple(visuals),
            sampling=options.sampling(self.manifest.generation),
            max_tokens=min(options.max_tokens, self.context - len(prompt.ids)),
            eos=frozenset(self.manifest.tokens.eos),
        )

    def _check_room(self, prompt: Prompt, patches: Sequence[Patches]) -> None:
        if len(prompt.ids) < self.context:
            return
        visual = sum(cut.grid.tokens for cut in patches)
        raise ContextLengthExceeded(
            f"the prompt has {len(prompt.ids)} tokens ({visual} of pictures, {len(prompt.ids) - visual} of text), "
            f"but the context is {self.context}, one of them for the answer: fewer pictures, a smaller "
            "max_image_tokens or a longer context may help"
        )

    def _timings(self, preprocess: float, vision: float, seconds: Sequence[float]) -> Timings:
        further = seconds[1:]
        return Timings(
            load=self._load_seconds,
            preprocess=preprocess,
            vision=vision,
            prefill=seconds[0],
            ttft=preprocess + vision + seconds[0],
            tpot=sum(further) / len(further) if further else None,
            total=preprocess + vision + sum(seconds),
        )


def _compile(folder: Path, manifest: Manifest, hints: Hints, context: int) -> tuple[VisionEncoder, Decoder]:
    """Both halves at the same time. An interrupted caller does not wait for the compiler."""
    core = open_device(hints)
    executor = ThreadPoolExecutor(max_workers=2)
    try:
        vision = executor.submit(VisionEncoder, core, folder, manifest.vision, hints)
        decoder = executor.submit(Decoder, core, folder, manifest.text, manifest.vision.deepstack, hints, context)
        return vision.result(), decoder.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _listed(pictures: Pictures) -> Sequence[PictureSource]:
    """A single source as a list of one."""
    return pictures if isinstance(pictures, list | tuple) else [pictures]  # type: ignore[list-item]


def _timed(tokens: Generator[int, None, None], seconds: list[float]) -> Generator[int, None, None]:
    """The tokens, with the time that each took the engine; the time that the caller takes is not counted."""
    with closing(tokens):
        while True:
            began = time.perf_counter()
            token = next(tokens, None)
            if token is None:
                return
            seconds.append(time.perf_counter() - began)
            yield token
