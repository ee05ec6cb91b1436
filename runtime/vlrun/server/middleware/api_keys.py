"""API keys from a file or a systemd credential, compared in constant time.

Only digests are kept, so that no log line, traceback or dump shows a key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from pathlib import Path

from vlrun.errors import ServiceError
from vlrun.storage.text_files import read_text

MAX_FILE_BYTES = 64 * 1024
MAX_KEYS = 100
KEY = re.compile(r"[!-~]{16,512}")
"""Visible ASCII, as headers require."""
NAMED = re.compile(r"([A-Za-z0-9._-]{1,64}):[ \t]+(\S.*)")
"""``name: key``. A key has no space, so a colon inside one is no separator."""
CREDENTIAL = "api-key"
NO_KEY = "none"
"""What the unit's ``SetCredential=`` has in place of a key, since a missing credential would be fatal."""


@dataclass(frozen=True, repr=False)
class ApiKeys:
    """Names of the keys, and the SHA-256 of each."""

    digests: tuple[tuple[str, bytes], ...]

    def __repr__(self) -> str:
        return f"ApiKeys({len(self.digests)})"

    @classmethod
    def read(cls, path: Path) -> ApiKeys:
        """Read keys from a file, one per line, or ``name: key``; blank lines and comments (``#``) are skipped.

        Raises ServiceError if others may write or the world may read the file, for an invalid line, and unless there
        are 1 to 100 keys.
        """
        return cls.parse(_read(path), path)

    @classmethod
    def credential(cls) -> ApiKeys | None:
        """Keys of systemd's credential ``api-key``; None without one, or if it says ``none``."""
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        path = Path(folder or ".") / CREDENTIAL
        if not folder or not path.exists():
            return None
        text = _read(path)
        return None if text.strip() == NO_KEY else cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: Path) -> ApiKeys:
        """Parse the text of a key file; ``path`` is for errors. Keys without a name are numbered."""
        digests: dict[str, bytes] = {}
        for number, line in enumerate(map(str.strip, text.splitlines()), 1):
            if not line or line.startswith("#"):
                continue
            named = NAMED.fullmatch(line)
            name, key = named.groups() if named else (f"key-{len(digests) + 1}", line)
            if not KEY.fullmatch(key):
                raise ServiceError(f"{path}, line {number}: a key is 16 to 512 visible ASCII characters")
            if name in digests or _digest(key) in digests.values():
                raise ServiceError(f"{path}, line {number}: this name or key is given twice")
            digests[name] = _digest(key)
        if not 1 <= len(digests) <= MAX_KEYS:
            raise ServiceError(f"{path} has {len(digests)} keys; 1 to {MAX_KEYS} are possible")
        return cls(tuple(digests.items()))

    def name_of(self, presented: str) -> str | None:
        """The name of a key, or None. All keys are compared, so that every guess takes the same time."""
        digest = _digest(presented)
        matches = [(hmac.compare_digest(digest, known), name) for name, known in self.digests]
        return next((name for same, name in matches if same), None)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _read(path: Path) -> str:
    try:
        return read_text(path, MAX_FILE_BYTES, private=True)
    except OSError as error:
        raise ServiceError(f"the key file {path} cannot be used: {error.strerror}") from None
