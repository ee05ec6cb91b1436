"""A conversation about images in which only new tokens are computed; it can be saved to a file."""

from __future__ import annotations

import base64
import contextlib
import io
import math
import os
import stat
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from vlrun.engine.request import Cancellation
from vlrun.errors import InvalidAnswer, OptionError, OutputError, VlrunError
from vlrun.manifest import MANIFEST, Manifest
from vlrun.media.clip import Clip, make_pair
from vlrun.media.frame_sampling import PAIR
from vlrun.media.image import Image, image_size, open_image
from vlrun.media.pending_image import MAX_IMAGES, read_headers
from vlrun.media.transform import ImageTransform
from vlrun.media.video import PendingClip
from vlrun.prompt.builder import Images, clips_of, user_turn
from vlrun.prompt.tool_calls import find_tool_calls
from vlrun.storage import files
from vlrun.storage.output_file import resolve_links
from vlrun.storage.regular_files import read_regular
from vlrun.storage.text_files import without_byte_order_mark
from vlrun.types import arguments as check
from vlrun.types.answer import Answer, Chunk, last_of
from vlrun.types.options import Options
from vlrun.types.turn import GeneratedText, Role, Tool, ToolCall, Turn, system_turns
from vlrun.types.video_rules import PUBLISHED_RULES

if TYPE_CHECKING:
    from vlrun.vlm import VLM

FORMAT = 1
BEGINNING = b'{"format":'
"""Of every saved conversation."""
MAX_FILE_BYTES = 512 * 2**20
"""The file contains the images as PNG."""


class Conversation:
    """A conversation with one model.

    An interrupted answer is kept as far as it was received; a question that fails is not kept. A ``cancellation`` ends
    its answers from another thread, as that of ``VLM.chat``.
    """

    def __init__(
        self,
        vlm: VLM,
        *,
        system: str | None = None,
        options: Options | None = None,
        tools: Sequence[Tool] = (),
        cancellation: Cancellation | None = None,
    ) -> None:
        check.has_method("chat", "a vlrun.VLM")("vlm", vlm)
        self._vlm = vlm
        self._system = system_turns(system)
        self._options = check.optional(check.instance(Options))("options", options) or Options()
        self._tools = check.tuple_of(check.mapping, "mappings")("tools", tools)
        self._cancellation = check.optional(check.instance(Cancellation))("cancellation", cancellation)
        self.turns: tuple[Turn, ...] = self._system

    def ask(self, question: str, images: Images = (), options: Options | None = None) -> Answer:
        """Ask the next question, with or without new images. Raises as ``VLM.ask``."""
        return last_of(self.stream(question, images, options))

    def stream(self, question: str, images: Images = (), options: Options | None = None) -> Generator[Chunk]:
        """Stream the answer to the next question. Raises as ``VLM.ask``."""
        given = self._options if options is None else options

        def open_clip(pending: PendingClip, among: int) -> Clip:
            context, before = self._vlm.known_context, clips_of(self.turns)
            return self._vlm.builder.open_clip(pending, given, context, among=among, before=before)

        return self._stream([user_turn(images, question, open_clip)], options)

    def tool_results(self, results: Sequence[str], options: Options | None = None) -> Generator[Chunk]:
        """Continue with the results of the tools that the last answer called: one text per call, in order."""
        results = check.tuple_of(check.text, "texts")("results", results)
        last = self.turns[-1].parts[-1] if self.turns and self.turns[-1].role == "assistant" else ""
        text = last.answer if isinstance(last, GeneratedText) else str(last)
        calls = len(find_tool_calls(text, self._vlm.family.tool_calls))
        if len(results) != calls or not calls:
            raise OptionError(f"the last answer has {calls} tool calls, but there are {len(results)} results")
        return self._stream([Turn("tool", (result,)) for result in results], options)

    def clear(self) -> None:
        """Remove all turns except the system prompt."""
        self.turns = self._system

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the conversation with its images to a file, which may replace a saved one. Raises OutputError."""
        target = resolve_links(os.fspath(check.path("path", path)))
        turns = tuple(
            _SavedTurn(turn.role, tuple(map(_save_part, turn.parts)), turn.tool_calls, turn.reasoning)
            for turn in self.turns
        )
        encoded = msgspec.json.encode(_SavedConversation(FORMAT, self._vlm.fingerprint, turns))
        if len(encoded) > MAX_FILE_BYTES:
            raise OutputError(f"the conversation with its images has more than {MAX_FILE_BYTES:,} bytes, the limit")
        try:
            _check_replaceable(target)
            files.write_atomic(target, encoded)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a file name"
            raise OutputError(f"cannot write '{target}': {reason}") from error

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace this conversation with a saved one. Raises OptionError."""
        source = check.path("path", path)
        if os.path.isfile(source / MANIFEST):  # noqa: PTH113 - Path.is_file raises for names that are too long
            raise OptionError(f"'{source}' is a model folder: vlrun.load opens it; a conversation is a file of save()")
        try:
            content = without_byte_order_mark(read_regular(source, MAX_FILE_BYTES))
            saved = msgspec.json.decode(content, type=_SavedConversation)
        except OSError as error:
            raise OptionError(f"cannot read '{source}': {error.strerror}") from None
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise OptionError(f"'{source}' is not a conversation saved by vlrun: {error}") from None
        if saved.format != FORMAT:
            raise OptionError(f"'{source}' has format {saved.format}, but this vlrun reads format {FORMAT}")
        same_model = saved.model == self._vlm.fingerprint
        try:
            _check_images(saved.turns)
            turns = tuple(_restore_turn(turn, same_model) for turn in saved.turns)
            _check_tokens(self._vlm.manifest, turns)
            self.turns = turns
        except (VlrunError, ValueError) as error:
            raise OptionError(f"'{source}' is damaged: {error}") from None

    def _stream(self, new_turns: Sequence[Turn], options: Options | None) -> Generator[Chunk]:
        turns = (*self.turns, *new_turns)
        options = self._options if options is None else options
        # This raises here, not at the first chunk.
        chunks = self._vlm.chat(turns, options, self._tools, None, self._cancellation)
        return self._keep(turns, chunks)

    def _keep(self, turns: tuple[Turn, ...], chunks: Generator[Chunk]) -> Generator[Chunk]:
        """Pass on the chunks. At the end, or when the generator is closed, keep the turns and the text received."""
        text = reasoning = ""
        answer: Answer | None = None
        try:
            with closing(chunks):
                for chunk in chunks:
                    text += chunk.text
                    reasoning += chunk.reasoning
                    answer = chunk.answer
                    yield chunk
        except InvalidAnswer as error:
            answer = error.answer
            raise
        finally:
            if text or reasoning or answer:
                self.turns = (*turns, _answer_turn(text, reasoning, answer))


class _SavedPart(msgspec.Struct, omit_defaults=True):
    """Text with the token ids if the model generated it, an image as base64 PNG with its transform, or a clip."""

    text: str | None = None
    png: str | None = None
    transform: ImageTransform | None = msgspec.field(default=None, name="made_in")
    token_ids: tuple[int, ...] = msgspec.field(default=(), name="said")
    reasoning: str = ""
    answer_start: int = 0
    label: str = ""
    clip: _SavedClip | None = None


class _SavedClip(msgspec.Struct):
    """A clip: a base64 PNG of each pair of frames, one above the other, and its time."""

    pngs: tuple[str, ...]
    seconds: tuple[float, ...]
    size: tuple[int, int]
    frames: int
    fixed: bool = False


class _SavedTurn(msgspec.Struct, omit_defaults=True):
    role: Role
    parts: tuple[_SavedPart, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None


class _SavedConversation(msgspec.Struct):
    """The file's content. ``model`` is the fingerprint of the model that the token ids belong to."""

    format: int
    model: str
    turns: tuple[_SavedTurn, ...]


def _check_images(turns: Sequence[_SavedTurn]) -> None:
    """Read the headers of all images before any is decoded. Raises MediaError, OptionError and ValueError."""
    images = [part.png for turn in turns for part in turn.parts if part.png is not None]
    clips = [part.clip for turn in turns for part in turn.parts if part.clip is not None]
    if len(images) + len(clips) > MAX_IMAGES:
        raise ValueError(f"it has {len(images) + len(clips)} images, more than {MAX_IMAGES}")
    read_headers([base64.b64decode(image, validate=True) for image in images])
    for clip in clips:
        sizes = [image_size(base64.b64decode(png, validate=True)) for png in clip.pngs]
        if sum(width * height for width, height in sizes) > 2 * PUBLISHED_RULES.max_pixels:
            raise ValueError("a clip has too many pixels")


def _check_replaceable(target: Path) -> None:
    """Raise OutputError for a target that exists and is no saved conversation, and OSError if it cannot be read."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(target.stat().st_mode):
            raise OutputError(f"cannot write '{target}': it is not a regular file")
        with target.open("rb") as file:
            if file.read(len(BEGINNING)) not in (BEGINNING, b""):
                raise OutputError(f"'{target}' exists and is no saved conversation: choose another name")


def _answer_turn(text: str, reasoning: str, answer: Answer | None) -> Turn:
    """Return the turn of an answer. Token ids are known only if it is complete."""
    if answer is None or not answer.tokens:
        return Turn("assistant", (text,), reasoning=reasoning or None)
    whole = answer.opening + text
    return Turn("assistant", (GeneratedText(answer.tokens, whole, reasoning, len(answer.opening)),))


def as_text(turn: Turn) -> Turn:
    """Return a turn with the text of what a model generated instead of its tokens, for another model."""
    generated = [part for part in turn.parts if isinstance(part, GeneratedText)]
    parts = tuple(part.answer if isinstance(part, GeneratedText) else part for part in turn.parts)
    reasoning = "".join(part.reasoning for part in generated) or turn.reasoning
    return replace(turn, parts=parts, reasoning=reasoning)


def _save_part(part: str | Image | Clip | GeneratedText) -> _SavedPart:
    if isinstance(part, str):
        return _SavedPart(text=part)
    if isinstance(part, GeneratedText):
        return _SavedPart(part.text, token_ids=part.ids, reasoning=part.reasoning, answer_start=part.answer_start)
    if isinstance(part, Clip):
        pngs = tuple(_png(pair.frames.reshape(-1, *pair.frames.shape[2:])) for pair in part.pairs)
        return _SavedPart(label=part.label, clip=_SavedClip(pngs, part.seconds, part.size, part.frames, part.fixed))
    return _SavedPart(png=_png(part.rgb), transform=part.transform, label=part.label)


def _png(rgb: npt.NDArray[np.uint8]) -> str:
    encoded = io.BytesIO()
    PILImage.fromarray(rgb).save(encoded, "PNG", compress_level=1)
    return base64.b64encode(encoded.getvalue()).decode("ascii")


def _restore_turn(turn: _SavedTurn, same_model: bool) -> Turn:
    """Token ids are used only with the model that generated them."""
    parts: list[str | Image | Clip | GeneratedText] = []
    reasoning = turn.reasoning
    for part in turn.parts:
        if part.png is not None:
            image = open_image(base64.b64decode(part.png, validate=True))
            parts.append(replace(image, transform=part.transform, label=part.label))
            continue
        if part.clip is not None:
            parts.append(_restore_clip(part.clip, part.label))
            continue
        text = part.text or ""
        if not 0 <= part.answer_start <= len(text) or part.reasoning not in text[: part.answer_start]:
            raise OptionError("its reasoning is not in its text")
        generated = GeneratedText(part.token_ids, text, part.reasoning, part.answer_start)
        if not generated.ids or not same_model:
            reasoning = generated.reasoning or reasoning
        parts.append(generated if generated.ids and same_model else generated.answer)
    return Turn(turn.role, tuple(parts), turn.tool_calls, reasoning=reasoning)


def _restore_clip(saved: _SavedClip, label: str) -> Clip:
    """Raises ValueError, MediaError and OptionError."""
    pairs = []
    for png, seconds in zip(saved.pngs, saved.seconds, strict=True):
        rgb = open_image(base64.b64decode(png, validate=True)).rgb
        if len(rgb) % PAIR or not math.isfinite(seconds):
            raise ValueError("a pair of frames has no two halves or no time")
        first, second = np.split(rgb, PAIR)
        pairs.append(make_pair(first, second, seconds))
    return Clip(tuple(pairs), saved.size, saved.frames, label=label, fixed=saved.fixed)


def _check_tokens(manifest: Manifest, turns: Sequence[Turn]) -> None:
    """Raise OptionError for tokens that the model cannot have generated: the file is untrusted."""
    tokens = manifest.tokens
    never = {tokens.image, tokens.video, tokens.vision_start, tokens.vision_end, *tokens.eos}
    ids = {token for turn in turns for part in turn.parts if isinstance(part, GeneratedText) for token in part.ids}
    if ids & never or any(not 0 <= token < manifest.text.vocab_size for token in ids):
        raise OptionError("it has tokens that the model cannot have generated")
