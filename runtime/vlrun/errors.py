"""Errors that users or clients can cause, with exit codes and HTTP statuses.

A message is one sentence: it says what is wrong and, where possible, what to do.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

    from vlrun.types.answer import Answer

T = TypeVar("T")

MAX_REASON = 300
"""Characters of a library's message; a compiler's can have thousands."""
SOURCE_PLACE = re.compile(r"^Exception from \S+:\d+:$|^Check '.*' failed at \S+:\d+:?|^\[GPU\]\s*")
"""What OpenVINO puts around its messages."""


class VlrunError(Exception):
    """Base class.

    Attributes:
        exit_code: Exit code of the command line.
        http_status: Status of the server's response.
        message: Text without internal details, safe for clients.
        because: The cause, such as a library's message; only for local users.
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str = "", because: object = None) -> None:
        super().__init__(message if because is None else f"{message}: {because}")
        self.message = message
        self.because = because


class OptionError(VlrunError):
    """An option or argument out of its range."""

    exit_code = 2
    http_status = 400


class SchemaError(OptionError):
    """A JSON schema that is invalid or not supported."""


class ToolError(OptionError):
    """Tool definitions that are invalid, or whose parameters are not supported."""


class MediaError(VlrunError):
    """An image that cannot be used."""

    exit_code = 3
    http_status = 400


class MediaNotFound(MediaError):
    """No such file, or it cannot be opened."""


class UnsupportedMedia(MediaError):
    """A format that vlrun cannot read."""

    http_status = 415


class MissingExtra(UnsupportedMedia):
    """A format whose package is not installed.

    Attributes:
        extra: The extra of the distribution that has it.
        need: The message without the command that installs it.
    """

    def __init__(self, need: str, extra: str) -> None:
        super().__init__(f"{need}: run pip install 'vlrun[{extra}]'")
        self.need = need
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return type(self), (self.need, self.extra)


class DamagedMedia(MediaError):
    """An empty, truncated or corrupt file."""


class MediaTooLarge(MediaError):
    """More pixels or bytes than the limit, or an aspect ratio that is too extreme."""


class ModelError(VlrunError):
    """A model folder that cannot be used."""

    exit_code = 4
    http_status = 503


class ModelNotFound(ModelError):
    """No such folder, or no manifest in it."""


class ForeignModel(ModelError):
    """A folder of another format, version or family."""


class DamagedModel(ModelError):
    """A file of the folder is missing, truncated or changed."""


class ModelChanged(DamagedModel):
    """A file of a loaded model was changed. The model must be loaded again."""


class ModelInUse(ModelError):
    """A model of the store is loaded, or another process is changing it."""


class ContextLengthExceeded(VlrunError):
    """The prompt does not fit into the context."""

    exit_code = 5
    http_status = 400


class AnswerCutShort(VlrunError):
    """An answer with a schema was cut short, so its JSON is incomplete. Over HTTP the finish reason tells."""

    exit_code = 11
    http_status = 200


class InvalidAnswer(VlrunError):
    """A complete answer that cannot become a value: a validator of the caller's type refuses it, for example.

    Attributes:
        answer: The answer, without a value.
    """

    exit_code = 11
    http_status = 200

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer

    def __reduce__(self) -> tuple[type[InvalidAnswer], tuple[str, Answer]]:
        return type(self), (self.message, self.answer)


class SchemaViolation(InvalidAnswer):
    """An answer that a grammar alone could not keep valid: it violates its schema, or could not continue under it."""

    http_status = 422


class EngineClosed(VlrunError):
    """The model was closed before the answer was complete."""

    exit_code = 10
    http_status = 503


class AnswerCancelled(VlrunError):
    """The request was cancelled, for example because the client disconnected."""

    exit_code = 130
    http_status = 499


class ServiceError(VlrunError):
    """The server cannot start: its address or its keys are not usable."""

    exit_code = 12


class DeviceError(VlrunError):
    """The device is missing, or it cannot run the model."""

    exit_code = 6
    http_status = 503


class UnreliableDevice(DeviceError):
    """The device runs the model, but its results differ from the CPU's, or it has crashed."""


class HubError(VlrunError):
    """The model hub cannot be reached, limits requests, or sent something else than it lists. Later it may work."""

    exit_code = 13


class HubRefused(HubError):
    """The hub has no such repository or revision, refuses access to it, or it holds nothing that vlrun can run."""

    exit_code = 14


class CheckpointError(VlrunError):
    """Export: the checkpoint folder cannot be exported."""

    exit_code = 7


class OutputError(VlrunError):
    """The target of an export exists already, or a file cannot be written."""

    exit_code = 8


class CheckFailed(VlrunError):
    """Export: the exported model deviates from the reference by more than the threshold."""

    exit_code = 9


class InferenceCancelled(Exception):
    """An inference was cancelled because its result is not needed. Internal: it never reaches a caller."""


def is_panic(error: BaseException) -> bool:
    """Return whether a Rust library panicked. PyO3 derives that from BaseException: ``except Exception`` misses it."""
    return type(error).__name__ == "PanicException" and not isinstance(error, Exception)


@contextmanager
def panics_as(kind: type[VlrunError], message: str) -> Iterator[None]:
    """Turn panics of Rust libraries into a VlrunError. A context manager and a decorator of functions."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise kind(message) from None


def as_vlrun_error(error: BaseException) -> BaseException:
    """Return the error to raise in a thread that waits for the failed one.

    Library errors become DeviceErrors. Stack frames are dropped: a stored error would keep the whole model alive.
    """
    if isinstance(error, RuntimeError | OSError | MemoryError) or is_panic(error):
        return DeviceError(f"the device failed: {reason_of(error)}")
    return copy.copy(error) if isinstance(error, VlrunError) else error.with_traceback(None)


def reason_of(error: BaseException) -> str:
    """Return a library's message in one line, without the places in its source code and within ``MAX_REASON``."""
    lines = (" ".join(SOURCE_PLACE.sub("", line).split()).rstrip("!.:;") for line in str(error).splitlines())
    text = "; ".join(line for line in lines if line)
    return f"{text[:MAX_REASON]}..." if len(text) > MAX_REASON else text or type(error).__name__


def result_of(future: Future[T]) -> T:
    """Wait for a future. Raises a copy of its error, so that the stored one collects no stack frames."""
    error = future.exception()
    if error is not None:
        raise copy.copy(error) if isinstance(error, VlrunError) else error
    return future.result()
