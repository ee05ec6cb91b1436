"""CPU time, which does not depend on the load of the machine as wall time does."""

from __future__ import annotations

import os


def cpu_seconds() -> float:
    """Return the CPU time of this process and its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
