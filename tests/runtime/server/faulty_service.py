"""A service whose device, clock or event loop the tests can make fail. Run as a program.

Each line on standard input injects a fault (the cases of ``inject``) or removes all (``restore``). Arguments: a model
folder, seconds added to compiling, and ``refuse`` to make compiling fail after that. All else is the real service.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import openvino as ov

from vlrun.backends.openvino.decoder import OpenVINODecoder
from vlrun.backends.openvino.device import Device
from vlrun.backends.openvino.vision_encoder import OpenVINOVisionEncoder
from vlrun.engine import watchdog
from vlrun.engine.backend import SequenceStep, StepOutput
from vlrun.errors import DeviceError, InferenceCancelled, VlrunError
from vlrun.models.model_folder import ModelFolder
from vlrun.server import logging, server
from vlrun.server.app import Access, Service
from vlrun.server.limits import ServerLimits
from vlrun.server.systemd import SystemdNotifier
from vlrun.types.cache_config import CacheConfig
from vlrun.vision.features import ImageFeatures
from vlrun.vision.vision_encoder import Patches
from vlrun.vlm import load

WINDOW = 0.3
"""Seconds without a finished step until the watchdog looks at the CPU time."""
STEP = 2.0
"""Seconds of a slow step."""
BLOCK_SECONDS = 3.0
"""Seconds for which the event loop is blocked."""
DRAIN = 0.5
DAY = 86400

real_forward, real_encode = OpenVINODecoder.forward, OpenVINOVisionEncoder.encode
real_compile, real_time = Device.compile_model, time.time


def hang(*_: object) -> NoReturn:
    """Neither return nor compute."""
    while True:
        threading.Event().wait()


def fail(*_: object) -> NoReturn:
    """Raise an error with text as a driver writes it."""
    raise RuntimeError("[GPU] clWaitForEvents, error code: -14 at /opt/driver/stream.cpp:242")


def slow_forward(
    decoder: OpenVINODecoder, steps: Sequence[SequenceStep], stopped: Callable[[], bool]
) -> list[StepOutput]:
    """Repeat the step for ``STEP`` seconds: slow, but the device computes all the time."""
    until = time.monotonic() + STEP
    while time.monotonic() < until:
        logits = real_forward(decoder, steps, stopped)
        if stopped():  # a device checks this during a step
            raise InferenceCancelled
    return logits


def slow_encode(encoder: OpenVINOVisionEncoder, patches: Patches, stopped: Callable[[], bool]) -> ImageFeatures:
    until = time.monotonic() + STEP
    while time.monotonic() < until:
        features = real_encode(encoder, patches, stopped)
        if stopped():
            raise InferenceCancelled
    return features


def block(*_: object) -> None:
    """Block the event loop: signal handlers run in its thread."""
    time.sleep(BLOCK_SECONDS)


def patch(owner: Any, name: str, value: object) -> None:
    setattr(owner, name, value)


def inject(fault: str) -> None:
    """Start a fault, or end all faults."""
    match fault:
        case "raise":
            patch(OpenVINODecoder, "forward", fail)
        case "hang decoder":
            patch(OpenVINODecoder, "forward", hang)
        case "hang vision":
            patch(OpenVINOVisionEncoder, "encode", hang)
        case "slow":
            patch(OpenVINODecoder, "forward", slow_forward)
        case "slow vision":
            patch(OpenVINOVisionEncoder, "encode", slow_encode)
        case "block":
            os.kill(os.getpid(), signal.SIGUSR1)
        case "clock":  # each read is a day before or after the last one
            days = itertools.cycle((DAY, -DAY))
            patch(time, "time", lambda: real_time() + next(days))
        case "restore":
            patch(OpenVINODecoder, "forward", real_forward)
            patch(OpenVINOVisionEncoder, "encode", real_encode)
            patch(time, "time", real_time)


def read_commands() -> None:
    """Inject the fault of each input line, and confirm it on stderr."""
    for line in sys.stdin:
        inject(line.strip())
        sys.stderr.write(f"fault {line.strip()}\n")
        sys.stderr.flush()


def main(folder: Path, compile_delay: float, refuse: bool) -> None:
    """``vlrun serve`` with short timeouts."""

    def slow_compile(
        device: Device, model: ov.Model, folder: ModelFolder, weights: str, config: Mapping[str, str]
    ) -> ov.CompiledModel:
        device.compiling.set()
        time.sleep(compile_delay)
        if refuse:
            raise DeviceError("CPU refuses the model: zebra")
        return real_compile(device, model, folder, weights, config)

    watchdog.WINDOW_SECONDS, server.END_SECONDS = WINDOW, 0.5
    patch(Device, "compile_model", slow_compile)
    signal.signal(signal.SIGUSR1, block)
    logging.set_up(journal=False)
    opened = server.listen("127.0.0.1", 0)
    service = Service(
        load(folder, cache=CacheConfig(), wait=False), ("vlrun-tiny",), ServerLimits(drain=DRAIN), Access()
    )
    threading.Thread(target=read_commands, daemon=True).start()
    server.serve(service, opened, SystemdNotifier())


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "refuse")
    except VlrunError as error:
        sys.stderr.write(f"vlrun: {error}\n")
        sys.stderr.flush()
        os._exit(error.exit_code)
