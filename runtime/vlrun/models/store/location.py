"""Where the model store lies: in an option, in ``VLRUN_MODELS``, or in the user's data folder.

Whoever may write to the store decides what a name means, so a store that everyone may write to is not used.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import platformdirs

from vlrun.errors import ModelNotFound

VARIABLE = "VLRUN_MODELS"


def store_folder(given: Path | None = None) -> Path:
    """Return the folder of the store, whether it exists or not.

    Args:
        given: The value of an option, which has priority.

    Raises:
        ModelNotFound: There is no place for a store, or everyone may write to it.
    """
    if given is not None:
        folder = given.absolute()
    elif variable := os.environ.get(VARIABLE):
        folder = Path(variable).absolute()
    else:
        try:
            folder = platformdirs.user_data_path("vlrun") / "models"
        except RuntimeError:
            raise ModelNotFound(f"there is no home directory for models: set {VARIABLE} to a folder") from None
    _check_private(folder)
    return folder


def _check_private(folder: Path) -> None:
    try:
        writable = folder.stat().st_mode & stat.S_IWOTH
    except (OSError, ValueError):  # it does not exist yet, or its use fails with a better message
        return
    if writable:
        raise ModelNotFound(f"everyone may write to the model store '{folder}': it is not used until 'chmod o-w' on it")
