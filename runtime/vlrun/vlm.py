"""The whole story: images and a question in, an answer out.

``VLM.stream`` is where a newcomer starts reading. Command line, service and benchmark all consume it, and nothing else
touches the engine. Knows neither click nor HTTP.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from vlrun import manifest as manifests
from vlrun.backends.openvino.hints import Hints
from vlrun.backends.openvino.loader import ModelLoader, store_folder
from vlrun.embedded import FOLDER
from vlrun.engine.engine import Engine
from vlrun.engine.request import Cancellation, PendingImage, Request, TokenStream
from vlrun.engine.sampler import Constraint, FloatRows, Sampler, TeacherForcedSampler, TokenSampler
from vlrun.engine.watchdog import EngineState
from vlrun.errors import AnswerCancelled, ContextLengthExceeded, DamagedModel, OptionError, VlrunError
from vlrun.heatmap.attention import heat
from vlrun.heatmap.heat_map import Heat
from vlrun.kv_cache.block_hash import ImageSpan
from vlrun.kv_cache.prefix_store import may_know
from vlrun.manifest import Manifest
from vlrun.media.image import Image
from vlrun.models.registry import family_of
from vlrun.models.verification import verify
from vlrun.perf import profile as speed
from vlrun.prompt.builder import DEFAULT_QUESTION, BuiltPrompt, Images, PromptBuilder, user_turn
from vlrun.prompt.chat_template import ChatTemplate, load_tokenizer
from vlrun.prompt.detokenizer import Detokenizer, StopStrings
from vlrun.prompt.output import OutputAccumulator, timings
from vlrun.prompt.token_bytes import TokenBytes
from vlrun.prompt.tool_calls import find_tool_calls
from vlrun.structured.grammar import GrammarTokenizer
from vlrun.structured.python_types import schema_of, value_of
from vlrun.structured.tool_grammar import AnswerGrammar, compile_answer
from vlrun.types.answer import Answer, Chunk, FinishReason, Progress, Usage, last_of
from vlrun.types.cache_config import CacheConfig
from vlrun.types.options import MAX_TOKENS, Options
from vlrun.types.turn import Tool, ToolChoice, Turn
from vlrun.vision.encoder_queue import EncoderQueue, image_key
from vlrun.vision.grid import Grid


@dataclass(frozen=True)
class _Ready:
    """A question that can be answered, the grammar that its answer follows, and how long it took to get there."""

    asked: BuiltPrompt
    grammar: AnswerGrammar | None
    seconds: float
    cancellation: Cancellation
    calling: bool


def load(
    folder: str | os.PathLike[str] | None = None,
    *,
    hints: Hints | None = None,
    room: CacheConfig | None = None,
    wait: bool = True,
) -> VLM:
    """Load a model folder, or the embedded model if none is given. Without ``wait`` it goes on loading in the
    background: the first question begins with its images meanwhile, and raises what is wrong with the model.

    Raises ModelError for a folder that cannot be used, DeviceError for a device that is not there, OptionError for room
    that the model cannot use.
    """
    vlm = VLM(Path(folder) if folder is not None else FOLDER, hints or Hints(), room or CacheConfig())
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

    def __init__(self, folder: Path, hints: Hints, room: CacheConfig) -> None:
        began = time.perf_counter()
        self._room = room
        self.manifest: Manifest = manifests.read(folder)
        self.fingerprint = fingerprint = manifests.fingerprint(folder)
        if manifests.read(folder) != self.manifest:
            raise DamagedModel(f"'{folder}' was replaced while it was being loaded: load it again")
        self.family = family_of(self.manifest)
        verify(self.manifest, folder)
        self._opening = ModelLoader(folder, self.manifest, fingerprint, hints, room)
        self._verified_seconds = time.perf_counter() - began
        self._sight = EncoderQueue(self._opening.vision, self.manifest)
        self._end = weakref.finalize(self, _end, self._sight, self._opening)
        self._opening.compiling.wait()  # the tokenizer's parser does not let other threads run meanwhile
        self._tokenizer = load_tokenizer(folder / manifests.TOKENIZER)
        template = (folder / manifests.CHAT_TEMPLATE).read_text(encoding="utf-8")
        self._template = ChatTemplate(template, self._tokenizer, self.manifest.tokens.image)
        self._spelling = TokenBytes(self._tokenizer)
        tokens = self.manifest.tokens
        vocab_size = self.manifest.text.vocab_size
        self._grammar_tokenizer = GrammarTokenizer(folder / manifests.TOKENIZER, tokens.eos, vocab_size)
        auto = speed.auto_image_tokens(speed.known(fingerprint, str(hints)))
        self._prompt_builder = PromptBuilder(self.manifest, self._template, auto)

    def wait(self) -> None:
        """Until it answers at its full speed. Raises as ``load`` does."""
        self._opening.wait()

    @property
    def context(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self._opening.running.result().context

    @property
    def device(self) -> str:
        """What it runs on."""
        return self._opening.running.result().device

    @property
    def vision_seconds(self) -> Mapping[int, float]:
        """The least seconds that images took to be encoded so far, by their visual tokens."""
        return dict(self._sight.seconds)

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say about the device."""
        return self._opening.running.result().notes

    def state(self) -> EngineState:
        """How its engine is now; waits until there is one."""
        return self._engine.state()

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

    def ask(self, images: Images, question: str = DEFAULT_QUESTION, options: Options | None = None) -> Answer:
        """The answer to a question about one image, several, or none (an empty list).

        Raises MediaError, OptionError, ContextLengthExceeded, DeviceError, or EngineClosed; while the model is still
        loading also what ``load`` raises.
        """
        return last_of(self.stream(images, question, options))

    def stream(
        self, images: Images, question: str = DEFAULT_QUESTION, options: Options | None = None
    ) -> Generator[Chunk]:
        """The answer as it comes; the last chunk carries the whole. Closing the iterator stops the work.

        Images and question are checked at once, the work begins with the first chunk. Raises as ``ask`` does.
        """
        return self.chat([user_turn(images, question)], options)

    def chat(
        self,
        turns: Sequence[Turn],
        options: Options | None = None,
        tools: Sequence[Tool] = (),
        choice: ToolChoice | None = None,
        cancellation: Cancellation | None = None,
    ) -> Generator[Chunk]:
        """The answer to a whole conversation, in which the model may call ``tools``; otherwise as ``stream``. It can be
        ended from another thread by ``cancellation``, and raises AnswerCancelled then.

        What it has in common with an earlier one is not computed again. ``vlrun.Conversation`` keeps the turns.
        """
        return self._answer(self._prepare(turns, options or Options(), tools, choice, cancellation))

    def count(self, turns: Sequence[Turn], tools: Sequence[Tool] = ()) -> tuple[int, int]:
        """Tokens of a conversation's prompt, and how many of them are visual. Raises as ``chat`` does, but for a prompt
        that is too long.
        """
        asked = self._prompt_builder.build(turns, Options(), tools)
        return len(asked.prompt.ids), sum(grid.tokens for _, grid in asked.images)

    def count_text(self, text: str) -> int:
        """Tokens of a text alone. Raises OptionError for text that is no valid Unicode."""
        return len(self._template.encode_text(text))

    def make_ready_for_schemas(self) -> None:
        """Make what the first answer with a schema or tools needs: it takes 1 s and keeps other threads waiting."""
        self._grammar_tokenizer.load()
        self._grammar_tokenizer.completing_tokens(self.family.tool_calls.begin.encode())

    def check(self, options: Options) -> None:
        """Raise OptionError for a schema that cannot be kept, before any question is asked."""
        self._grammar(options)

    def check_said(self, said: Iterable[Sequence[int]]) -> None:
        """Raise OptionError for ids that this model cannot have said, out of a file of strangers."""
        tokens = self.manifest.tokens
        never = {tokens.image, tokens.video, tokens.vision_start, tokens.vision_end, *tokens.eos}
        for ids in said:
            if any(not 0 <= token < self.manifest.text.vocab_size or token in never for token in ids):
                raise OptionError("it has tokens that the model cannot have said")

    def holds(self, value: str, options: Options) -> bool:
        """Whether JSON text validates against the schema of these options."""
        grammar = self._grammar(options)
        if grammar is None:
            return True
        constraint = grammar.constraint()
        try:
            for token in self._template.encode_text(value):
                constraint.accept(token)
        except OptionError:
            return False
        return constraint.complete

    def _grammar(
        self, options: Options, tools: Sequence[Tool] = (), choice: ToolChoice | None = None
    ) -> AnswerGrammar | None:
        schema = None if options.schema is None else schema_of(options.schema)
        return compile_answer(schema, tools, choice or ToolChoice(), self._grammar_tokenizer, self.family)

    def score(self, images: Images, question: str, answer: str) -> FloatRows:
        """Logits before each token of a given answer and before its end, ``[tokens + 1, vocab_rows]``: how likely the
        model finds that answer. Raises as ``ask`` does.
        """
        options = Options(repetition_guard=False, prompt_lookup=False)
        asked = self._prepare([user_turn(images, question)], options).asked
        forced = TeacherForcedSampler([*self._template.encode_text(answer), self.manifest.tokens.eos[0]])
        if len(asked.prompt.ids) + len(forced.tokens) > self.context:
            raise ContextLengthExceeded(
                f"prompt and answer have {len(asked.prompt.ids)} and {len(forced.tokens)} tokens, the context is "
                f"{self.context}"
            )
        with self._submitted(asked, forced, len(forced.tokens), Cancellation()) as stream:
            for _ in stream:
                pass
        return np.stack(forced.rows)

    def _prepare(
        self,
        turns: Sequence[Turn],
        options: Options,
        tools: Sequence[Tool] = (),
        choice: ToolChoice | None = None,
        cancellation: Cancellation | None = None,
    ) -> _Ready:
        """Everything that can be wrong with a request is found here, before the model works."""
        began = time.perf_counter()
        grammar = self._grammar(options, tools, choice)
        asked = self._prompt_builder.build(turns, options, tools)
        seconds = time.perf_counter() - began
        self._prompt_builder.check_context(asked, self._room.context)
        if not self._opening.running.done:
            self._begin(asked.images)
        try:
            self._prompt_builder.check_context(asked, self.context)
        except VlrunError:
            self._sight.forget(asked.images)
            raise
        calling = bool(tools) and (choice is None or choice.mode != "none")
        return _Ready(asked, grammar, seconds, cancellation or Cancellation(), calling)

    def _begin(self, images: Sequence[tuple[Image, Grid]]) -> None:
        """Begin to encode while the decoder is being opened, unless what comes out of it seems to be on the disk."""
        keys = [image_key(image, grid) for image, grid in images]
        if not (self._room.kv_disk and may_know(store_folder(), keys)):
            for image, grid in images:
                self._sight.begin(image, grid)

    def _answer(self, ready: _Ready) -> Generator[Chunk]:
        asked, options = ready.asked, ready.asked.options
        constraint = ready.grammar.constraint() if ready.grammar else None
        detokenizer, stops = Detokenizer(self._tokenizer), StopStrings(options.stop)
        sampler = self._sampler(asked, constraint)
        said = OutputAccumulator(self._spelling, sampler.likely)
        with self._submitted(asked, sampler, options.max_tokens or MAX_TOKENS, ready.cancellation) as stream:
            for item in stream.items():
                if isinstance(item, Progress):
                    if options.progress:
                        yield Chunk("", progress=item)
                    continue
                if item in self.manifest.tokens.eos:
                    continue
                said.add_token(item)
                if piece := stops.push(detokenizer.push(item)):
                    yield said.chunk(piece)
                if stops.found:
                    break
        last = said.chunk(stops.push(detokenizer.flush()) + stops.flush())
        yield replace(last, answer=self._whole(ready, said, stream, stops.found))

    def _sampler(self, asked: BuiltPrompt, constraint: Constraint | None) -> Sampler:
        sampling, most = asked.options.sampling(self.manifest.generation), self.manifest.text.vocab_size
        return Sampler(sampling, asked.prompt.ids, most, constraint, asked.options.logprobs)

    def _whole(self, ready: _Ready, said: OutputAccumulator, stream: TokenStream, stopped: bool) -> Answer:
        asked, figures, schema, text = ready.asked, stream.figures, ready.asked.options.schema, said.text
        reason: FinishReason = "stop" if stopped or stream.reason is None else stream.reason
        calls = find_tool_calls(text, self.family.tool_calls) if ready.calling else ()
        whole = schema is not None and reason == "stop" and not stopped and not calls
        image_tokens = sum(grid.tokens for _, grid in asked.images)
        loaded = self._verified_seconds + self._opening.running.result().seconds
        return Answer(
            text,
            reason,
            Usage(len(asked.prompt.ids), image_tokens, figures.cached, figures.tokens, figures.passes),
            timings(loaded, ready.seconds, figures),
            notes=asked.notes,
            value=value_of(text, schema) if whole else None,
            marks=self.family.find_marks(text, asked.subject.size, asked.subject.frame) if asked.subject else (),
            tool_calls=calls,
            heat=self._heat(asked, said.tokens, stream) if asked.options.heatmap else None,
            tokens=() if stopped else tuple(said.tokens),
            logprobs=tuple(said.logprobs),
        )

    def _heat(self, asked: BuiltPrompt, tokens: Sequence[int], stream: TokenStream) -> Heat | None:
        """Where each token looked."""
        if stream.watched is None or not asked.images:
            return None
        placed = zip(asked.prompt.image_offsets, asked.images, strict=True)
        maps = tuple(heat(stream.watched, start, grid)[: len(tokens)] for start, (_, grid) in placed)
        detokenizer = Detokenizer(self._tokenizer)
        return Heat(maps, tuple(detokenizer.push(token) for token in tokens))

    @contextmanager
    def _submitted(
        self, asked: BuiltPrompt, chooser: TokenSampler, max_tokens: int, cancellation: Cancellation
    ) -> Iterator[TokenStream]:
        """The engine's stream of an answer; afterwards nothing of it goes on."""
        try:
            if cancellation.cancelled:
                raise AnswerCancelled("the answer was cancelled")
            with closing(self._engine.submit(self._request(asked, chooser, max_tokens))) as stream:
                cancellation.watch(stream.close)
                yield stream
        finally:
            self._sight.forget(asked.images)

    def _request(self, asked: BuiltPrompt, chooser: TokenSampler, max_tokens: int) -> Request:
        """Put everything together for the engine."""
        prompt = asked.prompt
        placed = list(zip(prompt.image_offsets, asked.images, strict=True))
        return Request(
            ids=np.array(prompt.ids, np.int64),
            positions=self.family.token_positions(len(prompt.ids), [(start, grid) for start, (_, grid) in placed]),
            images=tuple(self._pending(start, image, grid) for start, (image, grid) in placed),
            chooser=chooser,
            max_tokens=min(max_tokens, self.context - len(prompt.ids)),
            eos=frozenset(self.manifest.tokens.eos),
            guard=asked.options.repetition_guard,
            lookup=asked.options.prompt_lookup,
            watch=asked.options.heatmap,
        )

    def _pending(self, start: int, image: Image, grid: Grid) -> PendingImage:
        """An image named by all that its visual tokens depend on; the model is named by the root."""
        span = ImageSpan(start, grid.tokens, image_key(image, grid))
        return PendingImage(span, partial(self._sight.encode, image, grid))


def _end(sight: EncoderQueue, opening: ModelLoader) -> None:
    """What happens when nobody refers to a model any more, which may be noticed in any thread, or at the end of the
    process, which must not leave a thread in the middle of an inference.
    """
    sight.stop()
    if threading.current_thread() is threading.main_thread():
        opening.close()
        sight.close()
    else:
        opening.stop()
