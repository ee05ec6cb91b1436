"""The one place that talks to the hub, through huggingface_hub: 0.36 uses requests, later versions httpx.

huggingface_hub reads tokens and addresses from the usual places (``HF_TOKEN``, ``HF_HOME``, ``HF_ENDPOINT``). Its own
downloads are not used: since version 2 they begin again when a process was ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

import vlrun
from vlrun.errors import HubError, HubRefused, OptionError, VlrunError
from vlrun.models.hub.listing import Listed, RemoteFile, Repository, check_listing

PIECE_BYTES = 1 << 16
"""Bytes that are read at once: small, so that little is lost when a connection is cut."""
LIST_SECONDS = 10.0
"""Timeout of the first request, so that a machine without a network learns it soon."""
READ_SECONDS = 20.0
"""Timeout without any data during a download."""
COMMIT = re.compile("[0-9a-f]{40}")
RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")
NETWORK_ERRORS = (OSError, *HfHubHTTPError.__bases__)
"""What requests and httpx raise."""
TRY_LATER = frozenset((408, 425, 429, 500, 502, 503, 504))


class HubBusy(HubError):
    """The hub failed in a way that may pass.

    Attributes:
        retry_after: Seconds that it asks to wait; None if it does not say.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Hub:
    """A hub.

    Args:
        endpoint: Its address; by default that of ``HF_ENDPOINT``, or else Hugging Face's.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        self.endpoint = endpoint or str(constants.ENDPOINT)
        if not self.endpoint.startswith(("http://", "https://")):
            raise OptionError(f"HF_ENDPOINT must begin with https:// or http://, not be '{self.endpoint}'")

    def repository(self, name: str, revision: str) -> Repository:
        """Return a repository with its files at the present commit of a revision. Raises HubError."""
        with _translated(self.endpoint, name, revision), _understood(self.endpoint):
            info = HfApi(endpoint=self.endpoint, library_name="vlrun", library_version=vlrun.__version__).model_info(
                name, revision=revision, files_metadata=True, timeout=LIST_SECONDS
            )
        if not COMMIT.fullmatch(str(info.sha)):
            raise HubRefused(f"the hub at {self.endpoint} names no commit for '{name}'")
        listed = (
            Listed(one.rfilename, one.size, one.lfs.sha256 if one.lfs else None, one.blob_id)
            for one in info.siblings or ()
        )
        return Repository(name, revision, str(info.sha), self.endpoint, check_listing(name, listed))

    @contextmanager
    def open(self, repository: Repository, file: RemoteFile, position: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Open a file from ``position`` on; yield the position where the content really begins, and its pieces.

        Raises:
            HubError: Also while the pieces are read.
        """
        address = hf_hub_url(repository.name, file.name, revision=repository.commit, endpoint=repository.endpoint)
        headers = build_hf_headers(library_name="vlrun", library_version=vlrun.__version__)
        headers["Accept-Encoding"] = "identity"  # sizes and ranges are those of the file itself
        if position:
            headers["Range"] = f"bytes={position}-"
        with _translated(self.endpoint, repository.name, repository.revision), _stream(address, headers) as response:
            if position and response.status_code == 416:  # the file is shorter than what is there
                raise HubBusy(f"the hub at {self.endpoint} refuses to go on with {file.name}")
            hf_raise_for_status(response)
            yield _beginning(response), _pieces(response)


@contextmanager
def _understood(endpoint: str) -> Iterator[None]:
    """Report an answer that no hub gives: the login page of a network, for example."""
    try:
        yield
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        if isinstance(error, HfHubHTTPError | HFValidationError):
            raise
        raise HubError(f"what answers at {endpoint} is not a model hub: check HF_ENDPOINT and the network") from error


def _stream(address: str, headers: dict[str, str]) -> Any:
    """Return a context manager of a response whose content is not read yet."""
    session: Any = get_session()
    if callable(session.stream):  # httpx; for requests it is a flag
        return session.stream("GET", address, headers=headers, timeout=READ_SECONDS)
    return session.get(address, headers=headers, stream=True, timeout=READ_SECONDS)  # requests


def _pieces(response: Any) -> Iterator[bytes]:
    if hasattr(response, "iter_bytes"):  # httpx
        yield from response.iter_bytes(PIECE_BYTES)
    else:
        yield from response.iter_content(PIECE_BYTES)


def _beginning(response: Any) -> int:
    """Return the position in the file where a response begins."""
    if response.status_code != 206:
        return 0
    match = RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None:
        raise HubBusy("the hub sent a part of a file without saying which")
    return int(match[1])


@contextmanager
def _translated(endpoint: str, repository: str, revision: str) -> Iterator[None]:
    """Turn the errors of huggingface_hub and its HTTP library into ours."""
    try:
        yield
    except VlrunError:
        raise
    except OfflineModeIsEnabled as error:
        raise HubError("HF_HUB_OFFLINE is set, so nothing is downloaded: unset it first") from error
    except HFValidationError as error:
        raise HubRefused(f"'{repository}' cannot be a repository: write OWNER/NAME") from error
    except GatedRepoError as error:
        raise HubRefused(
            f"'{repository}' is given only to those who accept its terms: do so at {endpoint}/{repository}, "
            "and set HF_TOKEN to a token of yours"
        ) from error
    except RevisionNotFoundError as error:
        raise HubRefused(f"'{repository}' has no revision '{revision}'") from error
    except RepositoryNotFoundError as error:
        raise HubRefused(
            f"there is no repository '{repository}' at {endpoint}, or it is private: then set HF_TOKEN"
        ) from error
    except HfHubHTTPError as error:
        raise _of_status(error, endpoint, repository) from error
    except NETWORK_ERRORS as error:
        raise HubBusy(f"cannot reach the hub at {endpoint} ({_cause(error)}): is there a network?") from error


def _of_status(error: HfHubHTTPError, endpoint: str, repository: str) -> HubError:
    status = error.response.status_code if error.response is not None else 0
    if status in (401, 403):
        return HubRefused(f"the hub at {endpoint} refuses access to '{repository}' (status {status}): check HF_TOKEN")
    if status == 404:
        return HubRefused(f"the hub at {endpoint} lacks a file of '{repository}' that it lists")
    if status not in TRY_LATER:
        return HubError(f"the hub at {endpoint} answers with status {status}")
    wait = _retry_after(error.response.headers)
    if status == 429:
        seconds = "later" if wait is None else f"in {wait:.0f} s"
        return HubBusy(f"the hub at {endpoint} limits the number of requests: try again {seconds}", wait)
    return HubBusy(f"the hub at {endpoint} fails with status {status}: try again later", wait)


def _retry_after(headers: Any) -> float | None:
    text = str(headers.get("Retry-After", "")).strip()
    return float(text) if text.isdecimal() and len(text) < 8 else None


def _cause(error: BaseException) -> str:
    """Return the innermost cause of an error in few words: HTTP libraries nest them."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())[:120]
