"""A real systemd as PID 1 in its own namespaces, with vlrun installed as packaging/systemd describes.

It needs root and a boot script from outside the clone; without them the tests skip. The root file system is read-only;
writes go to an overlay in memory, so the machine does not change.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.paths import ROOT
from tests.runtime.server.running_server import Server

T = TypeVar("T")

SCRIPT = ROOT.parent / "shared" / "tools" / "sdboot.sh"
UNITS = ROOT / "packaging" / "systemd"
HIDDEN = ("/root", "/home", "/tmp")
"""Folders hidden from the unit by ProtectHome= and PrivateTmp=."""
CLONE_NEWNET = 0x40000000
"""From sched.h."""
PROGRAM = """#!/opt/vlrun/bin/python3
from vlrun.cli import main
main()
"""
DROP_IN = "/run/systemd/system/vlrun.service.d/test.conf"


def skip_reason() -> str:
    """Return why the container cannot boot here, or an empty string."""
    if not SCRIPT.exists():
        return "the boot script is missing: it is not part of the clone"
    if os.geteuid() != 0:
        return "booting systemd needs root"
    if not _interpreter():
        return "no Python of this version outside /root, /home and /tmp, which are hidden from the unit"
    if _hidden(Path(sysconfig.get_path("purelib"))) or _hidden(ROOT):
        return "the clone or the environment is in /root, /home or /tmp, which are hidden from the unit"
    if ROOT.stat().st_dev != Path("/").stat().st_dev:
        return "the clone is not on the root file system, the only one visible inside"
    groups = Path("/sys/fs/cgroup/systemd/sdboot").rglob("cgroup.procs")
    return "another container is running" if any(group.read_text(encoding="ascii") for group in groups) else ""


def _hidden(path: Path) -> bool:
    return path.resolve().as_posix().startswith(HIDDEN)


def _interpreter() -> Path | None:
    """A Python of this version that is not hidden from the unit."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = (Path(sys.executable).resolve(), Path("/usr/bin") / name, Path("/usr/local/bin") / name)
    return next((path for path in candidates if path.exists() and not _hidden(path)), None)


def _install(root: Path) -> None:
    """Install the units, and an environment in /opt/vlrun that uses the packages of this one."""
    python = _interpreter() or Path()
    packages = root / "opt/vlrun/lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    program, units = root / "opt/vlrun/bin/vlrun", root / "etc/systemd/system"
    for folder in (packages, program.parent, units):
        folder.mkdir(parents=True)
    (root / "opt/vlrun/pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    (program.parent / "python3").symlink_to(python)
    (packages / "clone.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT / 'runtime'}\n")
    program.write_text(PROGRAM)
    program.chmod(0o755)
    for name in ("vlrun.socket", "vlrun.service"):
        shutil.copy(UNITS / name, units)


class SystemdContainer(Server):
    """The service in the container. Requests to it must run in ``call_inside``."""

    def __init__(self, folder: Path) -> None:
        self.url = "http://127.0.0.1:8321"
        self._folder = folder
        self._environment = os.environ | {"SDB": str(folder)}
        self._threads: ThreadPoolExecutor | None = None
        self._init = 0

    def boot(self) -> None:
        self._script("up", "--ro")
        outer = (self._folder / "pid").read_text().strip()
        (self._init,) = map(int, Path(f"/proc/{outer}/task/{outer}/children").read_text().split())
        self._threads = ThreadPoolExecutor(8, initializer=self._enter)

    def power_off(self) -> None:
        if self._threads:
            self._threads.shutdown()
        self._script("down")

    def _script(self, *arguments: str, given: str = "") -> str:
        command = [str(SCRIPT), *arguments]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=60, input=given, check=False
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(arguments)}: {done.stdout} {done.stderr}")
        return done.stdout

    def _enter(self) -> None:
        """Move this thread into the network namespace of the container."""
        with Path(f"/proc/{self._init}/ns/net").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def call_inside(self, call: Callable[[], T]) -> T:
        """Run a call in a thread that can reach the service."""
        if not self._threads:
            raise AssertionError("the container is not running")
        return self._threads.submit(call).result(60)

    def run(self, *command: str, given: str = "") -> str:
        """Return the output of a command in the container. Raises AssertionError if it fails."""
        return self._script("run", *command, given=given).strip()

    def property_of(self, name: str) -> str:
        """A property of the service in systemd."""
        return self.run("systemctl", "show", "vlrun.service", "--property", name, "--value")

    def restart(self, drop_in: str = "") -> float:
        """Restart with more settings, wait until ready, and return the seconds it took. Resets the restart counter."""
        self.configure(drop_in)
        self.run("sh", "-c", "systemctl stop vlrun.service && systemctl reset-failed && systemctl start vlrun.socket")
        began = time.monotonic()
        self.run("systemctl", "start", "vlrun.service")
        return time.monotonic() - began

    def configure(self, drop_in: str = "") -> None:
        """Write settings for the next start."""
        write = 'mkdir -p "${0%/*}" && cat >"$0" && systemctl daemon-reload'
        self.run("sh", "-c", write, DROP_IN, given=f"[Service]\n{drop_in}")


@contextmanager
def running_container() -> Iterator[SystemdContainer]:
    """Boot a container for a block."""
    with tempfile.TemporaryDirectory(prefix="vlrun-boot-") as folder:
        _install(Path(folder) / "inject")
        running = SystemdContainer(Path(folder))
        try:
            running.boot()
            yield running
        finally:
            running.power_off()
