"""A value that comes later, from another thread. Knows threads and our errors; does not know what is promised."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from vlrun.errors import DeviceError, VlrunError

T = TypeVar("T")


class Promise(Generic[T]):
    """A value or an error, once it is there.

    An error is kept without the frames that it came through, and each who asks gets a copy: frames hold whole models,
    and would hold them for as long as the promise lives.
    """

    def __init__(self) -> None:
        self._done = threading.Event()
        self._value: T | None = None
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether value or error is there."""
        return self._done.is_set()

    def keep(self, make: Callable[[], T]) -> None:
        """Make the value, now. What goes wrong in a library is a fault of the device."""
        try:
            self._value = make()
        except (RuntimeError, OSError, MemoryError) as error:
            self._error = DeviceError(f"the device failed: {' '.join(str(error).split()) or type(error).__name__}")
        except BaseException as error:  # noqa: BLE001 - goes to those who wait
            self._error = copy.copy(error) if isinstance(error, VlrunError) else error
        self._done.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is done, or for so long; whether it is done."""
        return self._done.wait(seconds)

    def result(self) -> T:
        """The value, when it is there. Raises the error instead."""
        self._done.wait()
        if self._error is not None:
            raise copy.copy(self._error) if isinstance(self._error, VlrunError) else self._error
        return self._value  # type: ignore[return-value]  # T may be None
