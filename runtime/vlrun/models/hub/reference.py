"""Parses what a user names to pull: an alias, ``OWNER/NAME``, or the address of a repository, each with a revision."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from vlrun.errors import OptionError
from vlrun.models.store.names import name_for, near

ADDRESS = re.compile(r"(?P<hub>https?://[^/]+)/(?P<repository>[^/]+/[^/]+?)(?:/tree/(?P<revision>.+?))?/?")
HUGGING_FACE = frozenset(("https://huggingface.co", "https://hf.co"))
"""Addresses that stand for the hub also where ``HF_ENDPOINT`` names a mirror."""
REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
MAIN = "main"


@dataclass(frozen=True)
class Reference:
    """A repository with a revision, and the name that the model gets in the store.

    Attributes:
        given: What the user wrote, without the revision.
    """

    given: str
    repository: str
    revision: str

    def name(self, weights: str | None) -> str:
        """Return the default name in the store, with the weights that were asked for."""
        return name_for(self.given if "/" not in self.given else self.repository, weights)


@cache
def aliases() -> Mapping[str, str]:
    """Return the repositories by their short names."""
    text = resources.files(__package__).joinpath("aliases.toml").read_text()
    models: Mapping[str, str] = tomllib.loads(text)["models"]
    return models


def parse_reference(text: str, endpoint: str) -> Reference:
    """Return what a text names at the hub with this address. Raises OptionError."""
    if address := ADDRESS.fullmatch(text):
        if address["hub"].lower() not in HUGGING_FACE | {endpoint.rstrip("/").lower()}:
            raise OptionError(f"'{text}' is no address at the hub {endpoint}: set HF_ENDPOINT to '{address['hub']}'")
        given, revision = address["repository"], address["revision"] or MAIN
    else:
        given, _, revision = text.partition("@")
        revision = revision if "@" in text else MAIN
    repository = aliases().get(given.lower(), given)
    if not REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        known = near(given, aliases()) or list(aliases())
        raise OptionError(
            f"'{given}' is neither OWNER/NAME of a repository nor a short name such as {', '.join(map(repr, known))}"
        )
    if not REVISION.fullmatch(revision) or ".." in revision:
        raise OptionError(f"'{revision}' cannot be a revision: write a branch, a tag or a commit after '@'")
    return Reference(given, repository, revision)
