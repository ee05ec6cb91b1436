"""Everything a user can cause, each with its exit code and its HTTP status.

::

    VlrunError                1  500   the root; never raised itself
    |- OptionError            2  400   an option or argument out of its range
    |  |- SchemaError          2  400   a JSON schema that cannot be honoured
    |  '- ToolError            2  400   tools that cannot be called
    |- MediaError             3  400   an image that cannot be used
    |  |- MediaNotFound       3  400   no such file, or it cannot be opened
    |  |- UnsupportedMedia    3  415   a format that vlrun does not read
    |  |- DamagedMedia        3  400   the file is empty, cut short or broken
    |  '- MediaTooLarge       3  400   more pixels or bytes than the limit, or too narrow a strip
    |- ModelError             4  503   a model folder that cannot be used
    |  |- ModelNotFound       4  503   no folder, or no manifest in it
    |  |- ForeignModel        4  503   another format, version or family
    |  '- DamagedModel        4  503   a file is missing, cut short or changed
    |- ContextLengthExceeded  5  400   the prompt does not fit
    |- AnswerCutShort        11  200   an answer that had to be JSON ended before it was complete
    |- EngineClosed          10  503   the model was closed while the answer was made
    |- AnswerCancelled      130  499   whoever asked has left
    |- ServiceError          12  500   the service cannot start as it was told to
    |- DeviceError            6  503   the device is missing or refuses the model
    |- CheckpointError        7  500   export: a checkpoint that cannot be exported
    |- OutputError            8  500   the target exists, or cannot be written
    '- CheckFailed            9  500   export: the result strays from the reference

A message is one sentence for the person who caused it: it says what is wrong and, where there is something to do, what
to do. This module knows no other module of vlrun.
"""

from __future__ import annotations

import copy
from concurrent.futures import Future
from typing import ClassVar, TypeVar

T = TypeVar("T")


class VlrunError(Exception):
    """Root of all errors that a user can cause.

    ``exit_code`` is the status of the command line, ``http_status`` that of the service. ``message`` is in our own
    words alone, fit for strangers; what a library said of it (``because``) is for the person at this machine.
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
    """A JSON schema that is wrong, or that cannot be honoured."""


class ToolError(OptionError):
    """Tools that are described wrongly, or whose parameters cannot be honoured."""


class MediaError(VlrunError):
    """An image that cannot be used."""

    exit_code = 3
    http_status = 400


class MediaNotFound(MediaError):
    """No such file, or it cannot be opened."""


class UnsupportedMedia(MediaError):
    """A format that vlrun does not read."""

    http_status = 415


class DamagedMedia(MediaError):
    """The file is empty, cut short or broken."""


class MediaTooLarge(MediaError):
    """More pixels or bytes than the limit, or a strip too narrow to be resized."""


class ModelError(VlrunError):
    """A model folder that cannot be used."""

    exit_code = 4
    http_status = 503


class ModelNotFound(ModelError):
    """No such folder, or no manifest in it."""


class ForeignModel(ModelError):
    """A folder of another format, version or family."""


class DamagedModel(ModelError):
    """A file of the folder is missing, cut short or changed."""


class ContextLengthExceeded(VlrunError):
    """The prompt does not fit into the model's context."""

    exit_code = 5
    http_status = 400


class AnswerCutShort(VlrunError):
    """An answer that had to follow a schema was cut before it was complete. Over HTTP its finish reason says so."""

    exit_code = 11
    http_status = 200


class EngineClosed(VlrunError):
    """The model was closed before the answer was complete."""

    exit_code = 10
    http_status = 503


class AnswerCancelled(VlrunError):
    """Whoever asked has left before the answer was complete. Nobody is there to be told."""

    exit_code = 130
    http_status = 499


class ServiceError(VlrunError):
    """The service cannot start as it was told to: its address, its keys."""

    exit_code = 12


class DeviceError(VlrunError):
    """The device is missing, or it refuses the model."""

    exit_code = 6
    http_status = 503


class CheckpointError(VlrunError):
    """Export: the checkpoint folder cannot be exported."""

    exit_code = 7


class OutputError(VlrunError):
    """The target of an export exists already, or a file cannot be written."""

    exit_code = 8


class CheckFailed(VlrunError):
    """Export: the exported model strays from the reference by more than the threshold."""

    exit_code = 9


class InferenceCancelled(Exception):
    """An inference was cancelled because nobody waits for its result. Internal: it never reaches a caller."""


def as_vlrun_error(error: BaseException) -> BaseException:
    """Return what to tell whoever waits for another thread: a copy without frames, or a DeviceError.

    What a library raises is a failure of the device. Frames are dropped because they would keep whole models alive for
    as long as the error is stored.
    """
    if isinstance(error, RuntimeError | OSError | MemoryError):
        return DeviceError(f"the device failed: {' '.join(str(error).split()) or type(error).__name__}")
    return copy.copy(error) if isinstance(error, VlrunError) else error.with_traceback(None)


def result_of(future: Future[T]) -> T:
    """Wait for a future and return its result, or raise a copy of its error, which then keeps no frames."""
    error = future.exception()
    if error is not None:
        raise copy.copy(error) if isinstance(error, VlrunError) else error
    return future.result()
