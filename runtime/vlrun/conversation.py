"""A conversation about images: its turns, kept so that each costs only its new tokens, and saved to a file.

Knows turns and files; does not know how an answer is made.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from PIL import Image as PILImage

from vlrun.errors import OptionError, OutputError, VlrunError
from vlrun.media.image import Image, open_image
from vlrun.media.transform import ImageTransform
from vlrun.prompt.builder import MAX_IMAGES, Images, user_turn
from vlrun.prompt.tool_calls import find_tool_calls
from vlrun.storage import files
from vlrun.types.answer import Answer, Chunk, last_of
from vlrun.types.options import Options
from vlrun.types.turn import GeneratedText, Role, Tool, ToolCall, Turn

if TYPE_CHECKING:
    from vlrun.vlm import VLM

FORMAT = 1
MOST_FILE_BYTES = 512 * 2**20
"""A conversation file carries its images, as PNG."""


class Conversation:
    """Turns with one model. An answer that was broken off stays as far as it came, a question that failed does not."""

    def __init__(
        self, vlm: VLM, *, system: str | None = None, options: Options | None = None, tools: Sequence[Tool] = ()
    ) -> None:
        self._vlm = vlm
        self._system = (Turn("system", (system,)),) if system else ()
        self._options = options or Options()
        self._tools = tuple(tools)
        self.turns: tuple[Turn, ...] = self._system

    def ask(self, question: str, images: Images = (), options: Options | None = None) -> Answer:
        """The answer to the next question, with or without further images. Raises as ``VLM.ask`` does."""
        return last_of(self.stream(question, images, options))

    def stream(self, question: str, images: Images = (), options: Options | None = None) -> Generator[Chunk]:
        """The same as it comes."""
        return self._answered(user_turn(images, question), options)

    def tool_results(self, results: Sequence[str], options: Options | None = None) -> Generator[Chunk]:
        """Go on with what the called tools gave, one text for each call of the last answer, in order."""
        if isinstance(results, str) or not all(isinstance(result, str) for result in results):
            raise OptionError("the results of tools are a list of texts")
        said = self.turns[-1].parts[-1] if self.turns and self.turns[-1].role == "assistant" else ""
        text = said.text if isinstance(said, GeneratedText) else str(said)
        called = len(find_tool_calls(text, self._vlm.family.tool_calls))
        if len(results) != called or not called:
            raise OptionError(f"the last answer calls {called} tools, but there are {len(results)} results")
        *earlier, last = (Turn("tool", (result,)) for result in results)
        return self._answered(last, options, tuple(earlier))

    def clear(self) -> None:
        """Forget all turns but what the system said."""
        self.turns = self._system

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the conversation with its images into one file. Raises OutputError."""
        target = Path(path)
        saved = _Saved(FORMAT, self._vlm.fingerprint, tuple(_saved(turn) for turn in self.turns))
        encoded = msgspec.json.encode(saved)
        if len(encoded) > MOST_FILE_BYTES:
            raise OutputError(f"the conversation has more than {MOST_FILE_BYTES:,} bytes with its images, the limit")
        try:
            files.put(target, encoded)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not the name of a file"
            raise OutputError(f"cannot write '{target}': {reason}") from error

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on with a conversation that was saved, in place of this one. Raises OptionError if it is none."""
        source = Path(path)
        try:
            if not source.is_file():
                raise OptionError(f"cannot read '{source}': no such file")
            if source.stat().st_size > MOST_FILE_BYTES:
                raise OptionError(f"'{source}' has more than {MOST_FILE_BYTES:,} bytes, the limit for a conversation")
            saved = msgspec.json.decode(source.read_bytes(), type=_Saved)
        except OSError as error:
            raise OptionError(f"cannot read '{source}': {error.strerror}") from None
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise OptionError(f"'{source}' is no conversation of vlrun: {error}") from None
        if saved.format != FORMAT:
            raise OptionError(f"'{source}' has format {saved.format}, but this vlrun reads format {FORMAT}")
        same = saved.model == self._vlm.fingerprint
        images = sum(part.png is not None for turn in saved.turns for part in turn.parts)
        try:
            if images > MAX_IMAGES:
                raise ValueError(f"it has {images} images, more than {MAX_IMAGES}")
            turns = tuple(_restored(turn, same) for turn in saved.turns)
            self._vlm.check_said(part.ids for turn in turns for part in turn.parts if isinstance(part, GeneratedText))
            self.turns = turns
        except (VlrunError, ValueError) as error:
            raise OptionError(f"'{source}' is damaged: {error}") from None

    def _answered(self, turn: Turn, options: Options | None, earlier: tuple[Turn, ...] = ()) -> Generator[Chunk]:
        asked = (*self.turns, *earlier, turn)
        chunks = self._vlm.chat(asked, options or self._options, self._tools)  # what is wrong is told at once
        return self._kept(asked, chunks)

    def _kept(self, asked: tuple[Turn, ...], chunks: Generator[Chunk]) -> Generator[Chunk]:
        """The chunks; when they end, or the reader leaves, the turn stays as far as it came."""
        text = ""
        answer: Answer | None = None
        try:
            with closing(chunks):
                for chunk in chunks:
                    text += chunk.text
                    answer = chunk.answer
                    yield chunk
        finally:
            if text or answer:
                said = GeneratedText(answer.tokens, text) if answer and answer.tokens else text
                self.turns = (*asked, Turn("assistant", (said,)))


class _SavedPart(msgspec.Struct, omit_defaults=True):
    """One of text, an image as PNG in base64 with where it lies in its original, or what a model said."""

    text: str | None = None
    png: str | None = None
    made_in: ImageTransform | None = None
    said: tuple[int, ...] = ()


class _SavedTurn(msgspec.Struct, omit_defaults=True):
    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[_SavedPart, ...]
    tool_calls: tuple[ToolCall, ...] = ()


class _Saved(msgspec.Struct):
    """A file. ``model``: fingerprint of the one whose tokens ``said`` has."""

    format: int
    model: str
    turns: tuple[_SavedTurn, ...]


def _saved(turn: Turn) -> _SavedTurn:
    return _SavedTurn(turn.role, tuple(_saved_part(part) for part in turn.parts), turn.tool_calls)


def _saved_part(part: str | Image | GeneratedText) -> _SavedPart:
    if isinstance(part, str):
        return _SavedPart(text=part)
    if isinstance(part, GeneratedText):
        return _SavedPart(text=part.text, said=part.ids)
    encoded = io.BytesIO()
    PILImage.fromarray(part.rgb).save(encoded, "PNG", compress_level=1)
    return _SavedPart(png=base64.b64encode(encoded.getvalue()).decode("ascii"), made_in=part.made_in)


def _restored(turn: _SavedTurn, same: bool) -> Turn:
    role: Role = turn.role
    return Turn(role, tuple(_restored_part(part, same) for part in turn.parts), turn.tool_calls)


def _restored_part(part: _SavedPart, same: bool) -> str | Image | GeneratedText:
    """The ids of what was said mean something to the same model alone."""
    if part.png is not None:
        return replace(open_image(base64.b64decode(part.png, validate=True)), made_in=part.made_in)
    text = part.text or ""
    return GeneratedText(part.said, text) if part.said and same else text
