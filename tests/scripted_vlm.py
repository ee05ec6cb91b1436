"""A VLM without a device, whose model writes a given text, for tests of what happens to its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from vlrun.embedded import FOLDER
from vlrun.engine.request import Request, TokenEvent, TokenStream
from vlrun.errors import VlrunError
from vlrun.manifest import read
from vlrun.models.registry import family_of
from vlrun.prompt.builder import PromptBuilder
from vlrun.prompt.chat_template import ChatTemplate
from vlrun.prompt.reasoning import reasoning_tokens
from vlrun.prompt.token_bytes import TokenBytes
from vlrun.prompt.tokenizer import parse_tokenizer
from vlrun.structured.grammar import GrammarTokenizer
from vlrun.types.answer import FinishReason
from vlrun.vlm import VLM

INSTRUCT_TEMPLATE = (FOLDER / "chat_template.jinja").read_text("utf-8")
THINKING_TEMPLATE = INSTRUCT_TEMPLATE.replace("assistant\\n' if add_gen", "assistant\\n<think>\\n' if add_gen")


class ScriptedEngine:
    """Runs the sampler on logits that favour the next token of a script.

    A token that the sampler does not take is skipped: the script goes on with the same token.
    """

    def __init__(self, eos: int, vocab_size: int) -> None:
        self.script: Sequence[int] = ()
        self.requests: list[Request] = []
        self._eos = eos
        self._vocab_size = vocab_size

    def submit(self, request: Request) -> TokenStream:
        """Generate all tokens at once."""
        self.requests.append(request)
        stream = TokenStream(lambda: None)
        waiting = [*self.script, self._eos]
        reason: FinishReason = "length"
        for number in range(request.max_tokens):
            logits = np.zeros(self._vocab_size, np.float32)
            logits[waiting[0]] = 10
            try:
                token = request.sampler.sample(logits)
            except VlrunError as error:
                stream.put(error)
                return stream
            if token == waiting[0] and len(waiting) > 1:
                waiting.pop(0)
            stream.put(TokenEvent(token, float(number), number + 1))
            if token in request.eos:
                reason = "stop"
                break
        stream.put(reason)
        return stream


class ScriptedVLM(VLM):
    """A VLM with the embedded model's files and a scripted model."""

    def __init__(self, template: str = THINKING_TEMPLATE, context: int = 8192) -> None:
        self.manifest = read(FOLDER)
        self.fingerprint = "scripted"
        self.family = family_of(self.manifest)
        content = (FOLDER / "tokenizer.json").read_bytes()
        self._tokenizer = parse_tokenizer(content, "tokenizer.json")
        tokens = self.manifest.tokens
        self.template = ChatTemplate(template, self._tokenizer, tokens.image, tokens.video)
        self.grammar_tokenizer = GrammarTokenizer(
            self._tokenizer, self.manifest.tokens.eos, self.manifest.text.vocab_size
        )
        self.scripted = ScriptedEngine(self.manifest.tokens.eos[0], self.manifest.text.vocab_size)
        self._token_bytes = TokenBytes(self._tokenizer)
        self._reasoning = reasoning_tokens(self.family.reasoning, self.template)
        self.builder = PromptBuilder(self.manifest, self.template)
        self._cache: Any = SimpleNamespace(context=None, kv_disk=0)
        self._verify_seconds = 0.0
        self._given_context = context
        self._finalizer: Any = lambda: None
        self._loader: Any = SimpleNamespace(
            loaded=SimpleNamespace(done=lambda: True),
            prefetch=lambda _: None,
            discard=lambda _: None,
            image_encoder=SimpleNamespace(seconds={}, running=None),
            process=SimpleNamespace(check=lambda: None),
        )

    @property
    def context(self) -> int:
        """Maximum number of tokens of a prompt and its answer."""
        return self._given_context

    @property
    def engine(self) -> Any:
        """The scripted engine."""
        return self.scripted

    @property
    def _loaded(self) -> Any:
        return SimpleNamespace(seconds=0.0, notes=(), settings="scripted")

    def write(self, text: str, split: Callable[[str], Sequence[str]] = lambda text: [text]) -> None:
        """Let the model write ``text`` next; names of control tokens in it are control tokens."""
        self.scripted.script = [
            token for piece in split(text) for token in self._tokenizer.encode(piece, add_special_tokens=False).ids
        ]
