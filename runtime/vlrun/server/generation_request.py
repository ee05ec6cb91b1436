"""What a request asks of the model, whichever endpoint it came through, and how its endpoint formats the answer.

Images are kept as the bytes of their files until it is the request's turn, so that the queue holds no pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from vlrun.media.region import Region
from vlrun.media.video import Video
from vlrun.server.api_errors import ApiError
from vlrun.server.sse import CONTENT_TYPE, comment
from vlrun.tasks.request import TaskRequest
from vlrun.types.answer import Answer, Chunk, Progress
from vlrun.types.options import Detail, Options
from vlrun.types.turn import Role, Tool, ToolCall, ToolChoice


@dataclass(frozen=True)
class EncodedImage:
    """An image file, a PDF file, which stands for images of its pages, or a video.

    ``param``: the request's field that it came in, for errors; ``reference``: the id of a stored image, whose file is
    filled in by ``ImageStore.resolve``; ``region`` and ``enhance``: as it is to be cropped and improved for the model;
    ``pages``: of a PDF file, as "1-3,7", None for all; ``name``: what the prompt calls it beside other files;
    ``video``: what is wanted of a video, without its file, None if the field was not one for videos.
    """

    encoded: bytes
    detail: Detail
    param: str
    reference: str = ""
    region: Region | None = None
    enhance: bool = False
    pages: str | None = None
    name: str = ""
    video: Video | None = None


Part: TypeAlias = str | EncodedImage


@dataclass(frozen=True)
class RequestMessage:
    """One message of the conversation. ``reasoning``: what an assistant wrote before it, if the client sent it."""

    role: Role
    parts: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None


@dataclass(frozen=True)
class GenerationRequest:
    """A conversation to be answered ``n`` times. Each image has its own ``detail``, that of the options is not used.

    Without messages there is nothing to answer: the request waits until the model is loaded.

    ``task``: has the question of the messages and their system prompt, and is answered once. Its images all have the
    detail of the options.

    ``raw``: each message is a text of its own, to be continued without chat template; ``n`` are the answers to all.
    """

    messages: tuple[RequestMessage, ...]
    options: Options = field(default_factory=Options)
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    n: int = 1
    raw: bool = False
    stream: bool = False
    include_usage: bool = False
    include_progress: bool = False
    task: TaskRequest | None = None

    @property
    def parallel(self) -> int:
        """Answers that can be generated at once."""
        return self.n if self.task is None else self.task.conversations

    @property
    def effective_options(self) -> Options:
        """The options with the defaults of the task."""
        return self.options if self.task is None else self.task.options(self.options)

    @property
    def images(self) -> tuple[EncodedImage, ...]:
        """All images, PDF files and videos, in order."""
        return tuple(part for message in self.messages for part in message.parts if isinstance(part, EncodedImage))

    @property
    def uses_tools(self) -> bool:
        """Whether the answer may contain tool calls."""
        return bool(self.tools) and self.tool_choice.mode != "none"


@dataclass(frozen=True)
class AnswerChunk:
    """A chunk of one of a request's answers."""

    index: int
    chunk: Chunk


class ResponseAdapter(ABC):
    """How an endpoint formats answers. Endpoints that do not stream implement ``whole`` only."""

    renamed_params: ClassVar[Mapping[str, str]] = {}
    """The endpoint's names for the ``param`` of errors that come from the engine."""
    content_type: ClassVar[bytes] = CONTENT_TYPE
    """Of streams."""

    def __init__(self, request: GenerationRequest) -> None:
        self.request = request

    @abstractmethod
    def whole(self, answers: Sequence[Answer]) -> bytes:
        """The body of an answer that is not streamed. Without messages there are no answers."""

    def begin(self) -> list[bytes]:
        """The first events of a stream."""
        return []

    def waiting(self, progress: Progress | None) -> bytes:
        """What keeps a stream open before its first text: the progress of the request, None while nothing happens."""
        if progress is None:
            return comment("waiting")
        return comment(f"{progress.phase} {100 * progress.done // max(progress.total, 1)} %")

    def events(self, chunk: AnswerChunk) -> list[bytes]:  # noqa: ARG002 - for adapters that stream
        """The events of a chunk."""
        return []

    def end(self, answers: Sequence[Answer]) -> list[bytes]:  # noqa: ARG002
        """The last events of a stream."""
        return []

    def failed(self, error: ApiError) -> list[bytes]:  # noqa: ARG002
        """The last events of a stream that cannot go on."""
        return []
