"""The process that an object's threads live in. A child that a fork made of it has the object, but not the threads."""

from __future__ import annotations

import os

from vlrun.errors import EngineClosed


class OwnerProcess:
    """The process that created this object."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def is_this(self) -> bool:
        """Return whether the caller runs in that process."""
        return os.getpid() == self._pid

    def check(self) -> None:
        """Raise EngineClosed in any other process, where waiting for a thread or a lock would never end."""
        if not self.is_this():
            raise EngineClosed(
                "this process was forked after the model was loaded, and has none of its threads: load the model in "
                "this process, or start it with the method 'spawn'"
            )
