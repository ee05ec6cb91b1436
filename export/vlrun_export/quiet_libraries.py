"""Silences the progress bars, tables and warnings of third-party libraries during an export."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

LOGGERS = ("nncf", "transformers", "torch", "openvino")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence standard output, Python warnings and the libraries' loggers below ERROR."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
