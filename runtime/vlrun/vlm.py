"""The public API: load a model, ask it about images, stream the answer. Nothing else calls the engine."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from vlrun.backends import backend_of, open_backends
from vlrun.backends.loader import LoadedModel, ModelLoader, finalize
from vlrun.backends.openvino.hints import AUTO, Hints, is_cpu
from vlrun.backends.system_memory import check_memory
from vlrun.each import Outcome, answer_each
from vlrun.embedded import FOLDER
from vlrun.engine.engine import Engine
from vlrun.engine.request import Cancellation, Request, TokenStream
from vlrun.engine.sampler import Constraint, Sampler, TeacherForcedSampler, TokenSampler
from vlrun.engine.watchdog import EngineState
from vlrun.errors import AnswerCancelled, ContextLengthExceeded, OptionError, SchemaViolation, result_of
from vlrun.layout import OPENVINO_RUNTIME
from vlrun.manifest import TOKENIZER, Manifest
from vlrun.models.family import ModelFamily
from vlrun.models.model_folder import ModelFolder
from vlrun.models.registry import family_of
from vlrun.models.store.store import resolve
from vlrun.models.verification import verify
from vlrun.perf.history import load_history
from vlrun.prompt.builder import DEFAULT_QUESTION, BuiltPrompt, Images, PromptBuilder, check_question, user_turn
from vlrun.prompt.chat_template import ChatTemplate
from vlrun.prompt.output import OutputAccumulator
from vlrun.prompt.reasoning import ReasoningSplitter, reasoning_tokens
from vlrun.prompt.token_bytes import TokenBytes
from vlrun.prompt.tokenizer import load_tokenizer
from vlrun.storage import cache_paths
from vlrun.structured.grammar import GrammarTokenizer
from vlrun.structured.prepared_request import PreparedRequest
from vlrun.structured.python_types import last_chunks, schema_of
from vlrun.structured.reasoning_constraint import ReasoningConstraint
from vlrun.structured.tool_grammar import AnswerGrammar, compile_answer
from vlrun.types import arguments as check
from vlrun.types.answer import Answer, Chunk, last_of
from vlrun.types.arrays import FloatArray
from vlrun.types.cache_config import CacheConfig
from vlrun.types.options import Options
from vlrun.types.turn import Tool, ToolChoice, Turn, check_conversation, system_turns
from vlrun.vision.image_encoder import ImageEncoder


def load(
    folder: str | os.PathLike[str] | None = None,
    *,
    hints: Hints | None = None,
    cache: CacheConfig | None = None,
    wait: bool = True,
) -> VLM:
    """Load a model.

    Args:
        folder: The name of a model in the store, or the model folder; a ``Path`` is never taken for a name. None loads
            the embedded model.
        hints: Device and OpenVINO properties.
        cache: What is kept in memory and on disk.
        wait: Return when the model is loaded. Otherwise it loads in the background while the first question encodes its
            images; that question raises the errors of loading.

    Raises:
        ModelError: The folder cannot be used.
        DeviceError: The device is missing or cannot run the model.
        OptionError: The model cannot use this cache configuration.
    """
    source = FOLDER if folder is None else check.path("folder", folder)
    if isinstance(folder, str):
        source = resolve(folder)
    hints = check.optional(check.instance(Hints))("hints", hints) or Hints()
    cache = check.optional(check.instance(CacheConfig))("cache", cache) or CacheConfig()
    check.flag("wait", wait)
    vlm = VLM(source, hints, cache)
    try:
        if wait:
            vlm.wait()
    except BaseException:
        vlm.close()
        raise
    return vlm


class VLM:
    """A vision-language model. Thread-safe: requests of several threads are batched.

    ``close`` it, or use it in a ``with`` block, to stop its threads. Its memory is freed with the last reference.

    Attributes:
        manifest: The manifest of the model folder.
        fingerprint: SHA-256 of the manifest.
        template: Chat template and tokenizer.
        grammar_tokenizer: The tokenizer for grammars.
        early_notes: Messages before the model is loaded: about memory, and about a cache folder that is not used.
        family: What is specific to the architecture.
        builder: Builds prompts.
    """

    def __init__(self, folder: Path, hints: Hints, cache: CacheConfig) -> None:
        start = time.perf_counter()
        self._cache = cache
        opened = ModelFolder(folder)
        self.manifest: Manifest = (manifest := opened.manifest)
        self.fingerprint = opened.fingerprint
        self.family: ModelFamily = family_of(manifest)
        notes = check_memory(manifest, cache, certain=is_cpu(hints.device))
        self.early_notes: tuple[str, ...] = (*notes, *cache_paths.distrusted())
        verify(opened)
        compiling = threading.Event()
        opening = lambda: open_backends(opened, hints, compiling)  # noqa: E731
        automatic = hints.device == AUTO and backend_of(opened, hints) == OPENVINO_RUNTIME  # the other has one device
        self._loader = ModelLoader(opened, cache, opening, compiling, automatic=automatic)
        self._verify_seconds = time.perf_counter() - start
        self._finalizer = weakref.finalize(self, finalize, self._loader)
        compiling.wait()  # parsing the tokenizer holds the GIL
        tokenizer = opened.read(TOKENIZER)
        self._tokenizer = load_tokenizer(tokenizer, opened)
        self.template = ChatTemplate(
            opened.chat_template(), self._tokenizer, manifest.tokens.image, manifest.tokens.video
        )
        self.grammar_tokenizer = GrammarTokenizer(
            self._tokenizer, manifest.tokens.eos, manifest.text.vocab_size, manifest.files[TOKENIZER].sha256
        )
        self._token_bytes = TokenBytes(self._tokenizer)
        self._reasoning = reasoning_tokens(self.family.reasoning, self.template)
        auto = load_history(self.fingerprint, str(hints)).auto_image_tokens(time.time())
        self.builder = PromptBuilder(manifest, self.template, auto)

    def wait(self) -> None:
        """Wait until the model is loaded. Raises as ``load``."""
        self._loader.wait()

    @property
    def context(self) -> int:
        """Maximum number of tokens of a prompt and its answer."""
        return self._loaded.context

    @property
    def device(self) -> str:
        """The device that the model runs on."""
        return self._loaded.device

    @property
    def settings(self) -> str:
        """The precisions and other properties in use, and how they were chosen."""
        return self._loaded.settings

    @property
    def thinks(self) -> bool:
        """Whether the model writes its reasoning before each answer."""
        opening = self.build_prompt([Turn("user", ("",))]).prompt.opening
        return self._reasoning is not None and opening == self._reasoning.begin

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages about the choice of the device; waits until the model is loaded."""
        return self._loaded.notes

    @property
    def image_encoder(self) -> ImageEncoder:
        """What encodes the images. It tells how long that takes."""
        return self._loader.image_encoder

    @property
    def engine(self) -> Engine:
        """The engine, which takes requests of token ids."""
        return self._loaded.engine

    def state(self) -> EngineState:
        """Return the state of the engine; waits until the model is loaded."""
        return self.engine.state()

    def close(self) -> None:
        """Stop the model's threads: running and later requests raise EngineClosed."""
        self._finalizer()

    def __enter__(self) -> VLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _loaded(self) -> LoadedModel:
        return result_of(self._loader.loaded)

    def ask(
        self,
        images: Images,
        question: str = DEFAULT_QUESTION,
        options: Options | None = None,
        *,
        system: str | None = None,
    ) -> Answer:
        """Answer a question about one image, several, or none (an empty list). ``system`` is the system prompt.

        Raises:
            MediaError: An image cannot be used.
            OptionError: An option or the question is not valid.
            ContextLengthExceeded: The prompt is too long.
            DeviceError: The device failed.
            EngineClosed: The model was closed.
            VlrunError: What ``load`` raises, while the model is still loading.
        """
        return last_of(self.stream(images, question, options, system=system))

    def stream(
        self,
        images: Images,
        question: str = DEFAULT_QUESTION,
        options: Options | None = None,
        *,
        system: str | None = None,
    ) -> Generator[Chunk]:
        """Stream the answer; the last chunk has all of it. Closing the generator cancels the request.

        Images and question are checked at once; the request starts with the first chunk. Raises as ``ask``.
        """
        given = check.optional(check.instance(Options))("options", options) or Options()
        opening = system_turns(system)
        turn = self.builder.question_turn(images, question, given, self.known_context)
        return self.chat([*opening, turn], given)

    def ask_each(
        self,
        sources: Iterable[Images],
        question: str = DEFAULT_QUESTION,
        options: Options | None = None,
        *,
        system: str | None = None,
    ) -> Generator[Outcome[Images, Answer]]:
        """Ask the same question about each of many images, several at once, and yield the outcomes as they complete.

        A source is an image, or a list of images for one question; sources are taken one by one. An image that cannot
        be used is the ``error`` of its outcome. Closing the generator cancels what is running. Raises as ``ask``.
        """
        given = check.optional(check.instance(Options))("options", options) or Options()
        check_question(question)
        opening = system_turns(system)
        self.grammar(given)  # raises OptionError

        def answer(source: Images, cancellation: Cancellation) -> Answer:
            turn = self.builder.question_turn(source, question, given, self.known_context)
            return last_of(self.chat([*opening, turn], given, cancellation=cancellation))

        return answer_each(check.iterable("sources", sources), answer)

    @property
    def known_context(self) -> int | None:
        """The context as far as it is known before the model is loaded."""
        return self.context if self._loader.loaded.done() else self._cache.context

    def chat(
        self,
        turns: Sequence[Turn],
        options: Options | None = None,
        tools: Sequence[Tool] = (),
        choice: ToolChoice | None = None,
        cancellation: Cancellation | None = None,
    ) -> Generator[Chunk]:
        """Stream the answer to a conversation. A prefix that it shares with an earlier one is not computed again.

        Args:
            turns: The conversation; ``vlrun.Conversation`` builds it.
            options: The options of the request.
            tools: Functions that the model may call.
            choice: Whether the model may, must or must not call them.
            cancellation: Cancels the request from another thread; the stream then raises AnswerCancelled.
        """
        turns, tools = check_conversation(turns, tools)
        options = check.optional(check.instance(Options))("options", options) or Options()
        check.optional(check.instance(ToolChoice))("choice", choice)
        check.optional(check.instance(Cancellation))("cancellation", cancellation)
        return self._generate(self._prepare(turns, options, tools, choice, cancellation))

    def complete(self, text: str, options: Options, cancellation: Cancellation) -> Generator[Chunk]:
        """Stream the continuation of a text, without chat template. The name of a control token is that token."""
        return self._generate(self._prepare(check.text("text", text), options, cancellation=cancellation))

    def score(self, images: Images, question: str, answer: str) -> FloatArray:
        """Return the logits before each token of a given answer and before its end, ``[tokens + 1, vocab_rows]``.

        Raises as ``ask``.
        """
        check.text("answer", answer)
        options = Options(repetition_guard=False, prompt_lookup=False)
        prepared = self._prepare([user_turn(images, question)], options)
        sampler = TeacherForcedSampler([*self.template.encode_text(answer), self.manifest.tokens.eos[0]])
        length = len(prepared.prompt.prompt.ids)
        if length + len(sampler.tokens) > self.context:
            raise ContextLengthExceeded(
                f"prompt and answer have {length} and {len(sampler.tokens)} tokens, the context is {self.context}"
            )
        with self._submit(prepared, sampler, len(sampler.tokens)) as stream:
            for _ in stream:
                pass
        return np.stack(sampler.logits)

    def build_prompt(self, turns: Sequence[Turn], tools: Sequence[Tool] = ()) -> BuiltPrompt:
        """Build the prompt of a conversation without answering it. Raises as ``chat``, except for the length."""
        turns, tools = check_conversation(turns, tools)
        self._loader.process.check()
        return self.builder.build(turns, Options(), tools)

    def build_request(self, built: BuiltPrompt, sampler: TokenSampler, max_tokens: int) -> Request:
        """Build the engine's request for a prompt. ``max_tokens`` is lowered to the rest of the context."""
        return self.builder.request(built, sampler, min(max_tokens, self.context - len(built.prompt.ids)))

    def grammar(
        self, options: Options, tools: Sequence[Tool] = (), choice: ToolChoice | None = None
    ) -> AnswerGrammar | None:
        """Compile the grammar of the answer; None if any text is valid. Raises OptionError for unsupported schemas."""
        self._loader.process.check()
        schema = None if options.schema is None else schema_of(options.schema)
        return compile_answer(schema, tools, choice or ToolChoice(), self.grammar_tokenizer, self.family)

    def _prepare(
        self,
        turns: Sequence[Turn] | str,
        options: Options,
        tools: Sequence[Tool] = (),
        choice: ToolChoice | None = None,
        cancellation: Cancellation | None = None,
    ) -> PreparedRequest:
        """Validate a request and build its prompt, which may be a text as it is, before the model runs."""
        start = time.perf_counter()
        grammar = self.grammar(options, tools, choice)
        compiled = time.perf_counter() - start if grammar else 0.0
        if isinstance(turns, str):
            prompt, reasoning = self.builder.build_raw(turns, options), None
        else:
            prompt, reasoning = self.builder.build(turns, options, tools), self._reasoning
        if grammar:
            prompt = replace(prompt, notes=(*prompt.notes, *grammar.checks.notes))
        seconds = time.perf_counter() - start, compiled
        self.builder.check_context(prompt, self._cache.context)
        self._loader.prefetch(prompt.prepared_images)
        try:
            self.builder.check_context(prompt, self.context)
        except BaseException:  # Ctrl+C too
            self._loader.discard(prompt.prepared_images)
            raise
        may_call = bool(tools) and (choice is None or choice.mode != "none")
        return PreparedRequest(prompt, grammar, seconds, cancellation or Cancellation(), may_call, reasoning)

    def _generate(self, prepared: PreparedRequest) -> Generator[Chunk]:
        if prepared.prompt.notes:
            yield Chunk("", notes=prepared.prompt.notes)
        options, prompt = prepared.prompt.options, prepared.prompt.prompt
        splitter = ReasoningSplitter(prepared.reasoning, prompt.opening)
        max_tokens, max_thought = options.limits(splitter.active, self.context - len(prompt.ids))
        sampler = self._sampler(prepared, splitter.active, max_thought)
        output = OutputAccumulator(self._tokenizer, options.stop, splitter, self._token_bytes, sampler.scores)
        with self._submit(prepared, sampler, max_tokens) as stream:
            try:
                yield from output.chunks(stream.items(), self.manifest.tokens.eos, options.progress)
            except OptionError as error:  # of the grammar
                yield output.finish()
                raise SchemaViolation(error.message, self._answer(prepared, output, stream)) from error
        last = output.finish()
        answer = self._answer(prepared, output, stream)
        complete = answer.finish_reason == "stop" and not output.stop and not answer.tool_calls
        yield from last_chunks(last, answer, options.schema if complete else None, prepared.checks)

    def _sampler(self, prepared: PreparedRequest, thinks: bool, max_thought: int) -> Sampler:
        prompt, manifest = prepared.prompt, self.manifest
        constraint: Constraint | None = prepared.grammar.constraint() if prepared.grammar else None
        if prepared.reasoning is not None:
            constraint = ReasoningConstraint(prepared.reasoning, thinks, max_thought, constraint, manifest.tokens.eos)
        params = prompt.options.sampling(manifest.generation)
        return Sampler(params, prompt.prompt.ids, manifest.text.vocab_size, constraint, prompt.options.logprobs)

    @contextmanager
    def _submit(self, prepared: PreparedRequest, sampler: TokenSampler, max_tokens: int) -> Iterator[TokenStream]:
        """Run a request in the engine; at the end of the block it is stopped."""
        try:
            if prepared.cancellation.cancelled():
                raise AnswerCancelled("the answer was cancelled")
            request = self.build_request(prepared.prompt, sampler, max_tokens)
            with closing(self.engine.submit(request)) as stream:
                prepared.cancellation.add_done_callback(lambda _: stream.close())
                yield stream
        finally:
            self._loader.discard(prepared.prompt.prepared_images)

    def _answer(self, prepared: PreparedRequest, output: OutputAccumulator, stream: TokenStream) -> Answer:
        return prepared.answer(output, stream, self.family, self._verify_seconds + self._loaded.seconds)
