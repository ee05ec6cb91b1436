"""The whole story: pictures and a question in, an answer out.

``VLM.stream`` is where a newcomer starts reading. Command line, service and benchmark all consume it, and nothing else
touches the engine. Knows neither click nor HTTP.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from vlrun import manifest as manifests
from vlrun.answer import Answer, Chunk, Options, Timings, Usage
from vlrun.cache.names import PictureSpan
from vlrun.cache.store import may_know
from vlrun.embedded import FOLDER
from vlrun.engine.engine import Engine
from vlrun.engine.request import Figures, FinishReason, PendingPicture, Request, Stream
from vlrun.engine.sampler import Chooser, FloatRows, Forced, Sampler
from vlrun.errors import ContextLengthExceeded, DamagedModel, OptionError, VlrunError
from vlrun.loading import Opening, Room, store_folder
from vlrun.manifest import Manifest
from vlrun.media.image import Picture, PictureSource, open_picture
from vlrun.model.device import Hints
from vlrun.model.patches import grid_of
from vlrun.model.positions import Grid, token_positions
from vlrun.sight import Sight, picture_key
from vlrun.text.detokenizer import Detokenizer, StopStrings
from vlrun.text.template import ChatTemplate, Message, PicturePart, Prompt, load_tokenizer
from vlrun.verification import verify

DEFAULT_QUESTION = "Describe this image."
Pictures: TypeAlias = PictureSource | Sequence[PictureSource]


@dataclass(frozen=True)
class _Asked:
    """A question made ready: its prompt, and the pictures with their grids."""

    prompt: Prompt
    pictures: Sequence[tuple[Picture, Grid]]
    options: Options
    seconds: float


def load(
    folder: str | os.PathLike[str] | None = None,
    *,
    hints: Hints | None = None,
    room: Room | None = None,
    wait: bool = True,
) -> VLM:
    """Load a model folder, or the embedded model if none is given. Without ``wait`` it goes on loading in the
    background: the first question begins with its pictures meanwhile, and raises what is wrong with the model.

    Raises ModelError for a folder that cannot be used, DeviceError for a device that is not there, OptionError for room
    that the model cannot use.
    """
    vlm = VLM(Path(folder) if folder is not None else FOLDER, hints or Hints(), room or Room())
    try:
        if wait:
            vlm.wait()
    except BaseException:
        vlm.close()
        raise
    return vlm


class VLM:
    """A vision-language model, ready to answer, from several threads at once if need be. ``close`` it, or use it in a
    ``with`` block, to stop its threads; its memory is free when nobody refers to it any more.
    """

    def __init__(self, folder: Path, hints: Hints, room: Room) -> None:
        began = time.perf_counter()
        self._room = room
        self.manifest: Manifest = manifests.read(folder)
        fingerprint = manifests.fingerprint(folder)
        if manifests.read(folder) != self.manifest:
            raise DamagedModel(f"'{folder}' was replaced while it was being loaded: load it again")
        verify(self.manifest, folder)
        self._opening = Opening(folder, self.manifest, fingerprint, hints, room)
        self._verified_seconds = time.perf_counter() - began
        self._sight = Sight(self._opening.vision, self.manifest)
        self._end = weakref.finalize(self, _end, self._sight, self._opening)
        self._opening.compiling.wait()  # the tokenizer's parser does not let other threads run meanwhile
        self._tokenizer = load_tokenizer(folder / manifests.TOKENIZER)
        template = (folder / manifests.CHAT_TEMPLATE).read_text(encoding="utf-8")
        self._template = ChatTemplate(template, self._tokenizer, self.manifest.tokens.image)

    def wait(self) -> None:
        """Until it answers at its full speed. Raises as ``load`` does."""
        self._opening.wait()

    @property
    def context(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self._opening.running.result().context

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say about the device."""
        return self._opening.running.result().notes

    def close(self) -> None:
        """Stop: running answers end with EngineClosed, later questions are refused."""
        self._end()

    def __enter__(self) -> VLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _engine(self) -> Engine:
        return self._opening.running.result().engine

    def ask(self, pictures: Pictures, question: str = DEFAULT_QUESTION, options: Options | None = None) -> Answer:
        """The answer to a question about one picture, several, or none (an empty list).

        Raises MediaError, OptionError, ContextLengthExceeded, DeviceError, or EngineClosed; while the model is still
        loading also what ``load`` raises.
        """
        return [chunk.answer for chunk in self.stream(pictures, question, options) if chunk.answer][-1]

    def stream(
        self, pictures: Pictures, question: str = DEFAULT_QUESTION, options: Options | None = None
    ) -> Iterator[Chunk]:
        """The answer as it comes; the last chunk carries the whole. Closing the iterator stops the work.

        Pictures and question are checked at once, the work begins with the first chunk. Raises as ``ask`` does.
        """
        return self._answer(self._prepare(pictures, question, options or Options()))

    def score(self, pictures: Pictures, question: str, answer: str) -> FloatRows:
        """Logits before each token of a given answer and before its end, ``[tokens + 1, vocab_rows]``: how likely the
        model finds that answer. Raises as ``ask`` does.
        """
        asked = self._prepare(pictures, question, Options(repetition_guard=False, prompt_lookup=False))
        forced = Forced([*self._template.encode_text(answer), self.manifest.tokens.eos[0]])
        if len(asked.prompt.ids) + len(forced.tokens) > self.context:
            raise ContextLengthExceeded(
                f"prompt and answer have {len(asked.prompt.ids)} and {len(forced.tokens)} tokens, the context is "
                f"{self.context}"
            )
        with self._submitted(asked, forced, len(forced.tokens)) as stream:
            for _ in stream:
                pass
        return np.stack(forced.rows)

    def _prepare(self, sources: Pictures, question: str, options: Options) -> _Asked:
        """Everything that can be wrong with a request is found here, before the model works."""
        began = time.perf_counter()
        text: object = question  # None would be rendered as a picture
        if not isinstance(text, str) or not text.strip():
            raise OptionError("the question must be a text that is not empty")
        pictures = [open_picture(source) for source in _listed(sources)]
        grids = [self._grid(picture, options) for picture in pictures]
        message = Message("user", (*(PicturePart() for _ in pictures), question))
        prompt = self._template.encode([message], [grid.tokens for grid in grids])
        placed = list(zip(pictures, grids, strict=True))
        seconds = time.perf_counter() - began
        self._check_room(prompt, grids, min(self._room.context or sys.maxsize, self.manifest.text.max_positions))
        if not self._opening.running.done:
            self._begin(placed)
        try:
            self._check_room(prompt, grids, self.context)
        except VlrunError:
            self._sight.forget(placed)
            raise
        return _Asked(prompt, placed, options, seconds)

    def _begin(self, pictures: Sequence[tuple[Picture, Grid]]) -> None:
        """Begin to encode while the decoder is being opened, unless what comes out of it seems to be on the disk."""
        keys = [picture_key(picture, grid) for picture, grid in pictures]
        if not (self._room.kv_disk and may_know(store_folder(), keys)):
            for picture, grid in pictures:
                self._sight.begin(picture, grid)

    def _answer(self, asked: _Asked) -> Iterator[Chunk]:
        sampling = asked.options.sampling(self.manifest.generation)
        sampler = Sampler(sampling, asked.prompt.ids, self.manifest.text.vocab_size)
        text: list[str] = []
        detokenizer, stops = Detokenizer(self._tokenizer), StopStrings(asked.options.stop)
        with self._submitted(asked, sampler, asked.options.max_tokens) as stream:
            for token in stream:
                if token in self.manifest.tokens.eos:
                    continue
                if piece := stops.push(detokenizer.push(token)):
                    text.append(piece)
                    yield Chunk(piece)
                if stops.found:
                    break
        last = stops.push(detokenizer.flush()) + stops.flush()
        yield Chunk(last, self._whole(asked, "".join([*text, last]), stream, stops.found))

    def _whole(self, asked: _Asked, text: str, stream: Stream, stopped: bool) -> Answer:
        figures = stream.figures
        reason: FinishReason = "stop" if stopped or stream.reason is None else stream.reason
        image_tokens = sum(grid.tokens for _, grid in asked.pictures)
        usage = Usage(len(asked.prompt.ids), image_tokens, figures.cached, figures.tokens, figures.passes)
        notes = tuple(note for picture, _ in asked.pictures for note in picture.notes)
        loaded = self._verified_seconds + self._opening.running.result().seconds
        return Answer(text, reason, usage, _timings(loaded, asked.seconds, figures), notes)

    def _grid(self, picture: Picture, options: Options) -> Grid:
        vision, preprocessing = self.manifest.vision, self.manifest.preprocessing
        token_pixels = (vision.patch * vision.merge) ** 2
        budget = options.max_image_tokens * token_pixels
        if budget < preprocessing.min_pixels:
            least = -(-preprocessing.min_pixels // token_pixels)
            raise OptionError(f"max_image_tokens is {options.max_image_tokens}, but this model needs at least {least}")
        return grid_of(picture, preprocessing, vision, budget)

    @contextmanager
    def _submitted(self, asked: _Asked, chooser: Chooser, max_tokens: int) -> Iterator[Stream]:
        """The engine's stream of an answer; afterwards nothing of it goes on."""
        try:
            with closing(self._engine.submit(self._request(asked, chooser, max_tokens))) as stream:
                yield stream
        finally:
            self._sight.forget(asked.pictures)

    def _request(self, asked: _Asked, chooser: Chooser, max_tokens: int) -> Request:
        """Put everything together for the engine."""
        prompt = asked.prompt
        placed = list(zip(prompt.slots, asked.pictures, strict=True))
        return Request(
            ids=np.array(prompt.ids, np.int64),
            positions=token_positions(len(prompt.ids), [(start, grid) for start, (_, grid) in placed]),
            pictures=tuple(self._pending(start, picture, grid) for start, (picture, grid) in placed),
            chooser=chooser,
            max_tokens=min(max_tokens, self.context - len(prompt.ids)),
            eos=frozenset(self.manifest.tokens.eos),
            guard=asked.options.repetition_guard,
            lookup=asked.options.prompt_lookup,
        )

    def _pending(self, start: int, picture: Picture, grid: Grid) -> PendingPicture:
        """A picture named by all that its visual tokens depend on; the model is named by the root."""
        span = PictureSpan(start, grid.tokens, picture_key(picture, grid))
        return PendingPicture(span, partial(self._sight.encode, picture, grid))

    def _check_room(self, prompt: Prompt, grids: Sequence[Grid], context: int) -> None:
        if len(prompt.ids) < context:
            return
        visual = sum(grid.tokens for grid in grids)
        raise ContextLengthExceeded(
            f"the prompt has {len(prompt.ids)} tokens ({visual} of pictures, {len(prompt.ids) - visual} of text), "
            f"but the context is {context}, one of them for the answer: fewer pictures, a smaller "
            "max_image_tokens or a longer context may help"
        )


def _end(sight: Sight, opening: Opening) -> None:
    """What happens when nobody refers to a model any more, which may be noticed in any thread, or at the end of the
    process, which must not leave a thread in the middle of an inference.
    """
    sight.stop()
    if threading.current_thread() is threading.main_thread():
        opening.close()
        sight.close()
    else:
        opening.stop()


def _timings(load_seconds: float, preprocess: float, figures: Figures) -> Timings:
    begun = figures.begun or figures.submitted
    seen = figures.seen or begun
    first = figures.first or seen
    last = figures.last or first
    return Timings(
        load=load_seconds,
        preprocess=preprocess,
        queue=begun - figures.submitted,
        vision=seen - begun,
        prefill=first - seen,
        ttft=preprocess + first - figures.submitted,
        tpot=(last - first) / (figures.tokens - 1) if figures.tokens > 1 else None,
        total=preprocess + last - figures.submitted,
    )


def _listed(pictures: Pictures) -> Sequence[PictureSource]:
    """A single source as a list of one."""
    return pictures if isinstance(pictures, list | tuple) else [pictures]  # type: ignore[list-item]
