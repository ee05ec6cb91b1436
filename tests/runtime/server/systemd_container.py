"""A real systemd as PID 1 of namespaces of its own, with vlrun installed in it as packaging/systemd tells.

It needs root, and the script that boots it, which lies beside the clone and not in it; everybody else skips. The root
is read-only. Nothing of the machine is changed: what is written goes to an overlay in memory.
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
"""What the unit does not see of the machine: ProtectHome=, PrivateTmp=."""
CLONE_NEWNET = 0x40000000
"""Of sched.h."""
PROGRAM = """#!/opt/vlrun/bin/python3
from vlrun.cli import main
main()
"""
DROP_IN = "/run/systemd/system/vlrun.service.d/test.conf"


def skip_reason() -> str:
    """Why it cannot be booted here; empty if it can."""
    if not SCRIPT.exists():
        return "the script that boots a systemd is not here: it is no part of the clone"
    if os.geteuid() != 0:
        return "booting a systemd takes root"
    if not _interpreter():
        return "no Python of this version lies outside of /root, /home and /tmp, which the unit does not see"
    if _hidden(Path(sysconfig.get_path("purelib"))) or _hidden(ROOT):
        return "clone or environment lie in /root, /home or /tmp, which the unit does not see"
    if ROOT.stat().st_dev != Path("/").stat().st_dev:
        return "the clone lies on another file system than the root, which alone is seen inside"
    groups = Path("/sys/fs/cgroup/systemd/sdboot").rglob("cgroup.procs")
    return "another one is running" if any(group.read_text(encoding="ascii") for group in groups) else ""


def _hidden(path: Path) -> bool:
    return path.resolve().as_posix().startswith(HIDDEN)


def _interpreter() -> Path | None:
    """A Python like this one that the unit can see."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = (Path(sys.executable).resolve(), Path("/usr/bin") / name, Path("/usr/local/bin") / name)
    return next((path for path in candidates if path.exists() and not _hidden(path)), None)


def _install(root: Path) -> None:
    """An environment in /opt/vlrun that borrows the packages of this one, and the units."""
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
    """The service in there. What is to talk to it runs ``inside``."""

    def __init__(self, folder: Path) -> None:
        self.url = "http://127.0.0.1:8321"
        self._folder = folder
        self._environment = os.environ | {"SDB": str(folder)}
        self._threads: ThreadPoolExecutor | None = None
        self._init = 0

    def boot(self) -> None:
        """Boot."""
        self._script("up", "--ro")
        outer = (self._folder / "pid").read_text().strip()
        (self._init,) = map(int, Path(f"/proc/{outer}/task/{outer}/children").read_text().split())
        self._threads = ThreadPoolExecutor(8, initializer=self._enter)

    def power_off(self) -> None:
        """Power off."""
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
        """Have a thread live in there, as far as the network goes."""
        with Path(f"/proc/{self._init}/ns/net").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def call_inside(self, call: Callable[[], T]) -> T:
        """The result of a call that speaks to the service."""
        if not self._threads:
            raise AssertionError("it is not booted")
        return self._threads.submit(call).result(60)

    def run(self, *command: str, given: str = "") -> str:
        """What a command in there says. Raises AssertionError if it fails."""
        return self._script("run", *command, given=given).strip()

    def property_of(self, name: str) -> str:
        """A property of the service."""
        return self.run("systemctl", "show", "vlrun.service", "--property", name, "--value")

    def restart(self, drop_in: str = "") -> float:
        """Start the service with more settings, until it is ready; how long that took. No restart is counted yet."""
        self.configure(drop_in)
        self.run("sh", "-c", "systemctl stop vlrun.service && systemctl reset-failed && systemctl start vlrun.socket")
        began = time.monotonic()
        self.run("systemctl", "start", "vlrun.service")
        return time.monotonic() - began

    def configure(self, drop_in: str = "") -> None:
        """Settings from the next start on."""
        write = 'mkdir -p "${0%/*}" && cat >"$0" && systemctl daemon-reload'
        self.run("sh", "-c", write, DROP_IN, given=f"[Service]\n{drop_in}")


@contextmanager
def container() -> Iterator[SystemdContainer]:
    """A booted one, which is off again afterwards, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="vlrun-boot-") as folder:
        _install(Path(folder) / "inject")
        container = SystemdContainer(Path(folder))
        try:
            container.boot()
            yield container
        finally:
            container.power_off()
