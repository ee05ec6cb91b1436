"""What the hub refuses or fails to do: one sentence, at once, and the exit code that says whether a retry may help."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.hub_server import Fault, HubServer, running_hub
from tests.runtime.models.hub.pulling import REPOSITORY, pull, visible
from vlrun.errors import HubError, OptionError
from vlrun.models.hub.client import Hub

RETRY, REFUSED = 13, 14


def error_of(hub: HubServer, store: Path, text: str = REPOSITORY) -> HubError:
    with pytest.raises(HubError) as raised:
        pull(hub, store, text)
    assert "\n" not in str(raised.value)
    assert visible(store) == []
    return raised.value


def test_an_unknown_repository(hub: HubServer, tmp_path: Path) -> None:
    error = error_of(hub, tmp_path, "acme/nothing")
    assert str(error).startswith(f"there is no repository 'acme/nothing' at {hub.endpoint}, or it is private")
    assert error.exit_code == REFUSED


def test_an_unknown_revision(hub: HubServer, tmp_path: Path) -> None:
    error = error_of(hub, tmp_path, f"{REPOSITORY}@v9")
    assert (str(error), error.exit_code) == ("'acme/letters' has no revision 'v9'", REFUSED)


def test_a_private_repository_opens_with_the_token(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[REPOSITORY].private_token = "hf_secret"
    assert error_of(hub, tmp_path).exit_code == REFUSED
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert pull(hub, tmp_path).is_new


def test_a_gated_repository(hub: HubServer, tmp_path: Path) -> None:
    hub.repositories[REPOSITORY].gated = True
    error = error_of(hub, tmp_path)
    assert f"accept its terms: do so at {hub.endpoint}/{REPOSITORY}, and set HF_TOKEN" in str(error)
    assert error.exit_code == REFUSED


def test_large_files_come_from_another_server_which_does_not_get_the_token(
    hub: HubServer, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub redirects to a content delivery network, also for the rest of a file."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with running_hub() as network:
        commit = network.publish_folder(REPOSITORY, letters)
        location = f"{network.endpoint}/{REPOSITORY}/resolve/{commit}/decoder.bin"
        hub.faults["decoder.bin"] = Fault(status=302, headers={"Location": location}, times=2)
        network.faults["decoder.bin"] = Fault(cut_after=600_000)
        assert pull(hub, tmp_path).is_new
        assert [asked != "" for _, _, asked in network.requests] == [False, True]
        assert network.authorizations == ["", ""]
    assert {*hub.authorizations} == {"Bearer hf_secret"}


STATUSES = {
    401: (REFUSED, "refuses access"),
    403: (REFUSED, "refuses access"),
    418: (RETRY, "answers with status 418"),
    429: (RETRY, "limits the number of requests: try again in 9 s"),
    500: (RETRY, "fails with status 500"),
    503: (RETRY, "fails with status 503"),
}


@pytest.mark.parametrize("status", STATUSES)
def test_statuses_of_the_first_request(status: int, hub: HubServer, tmp_path: Path) -> None:
    """Nothing is waited for before anything was found."""
    hub.faults["listing"] = Fault(status=status, headers={"Retry-After": "9"})
    error = error_of(hub, tmp_path)
    code, text = STATUSES[status]
    assert error.exit_code == code
    assert text in str(error)


def test_a_file_that_the_hub_lists_but_lacks(hub: HubServer, tmp_path: Path) -> None:
    hub.faults["decoder.xml"] = Fault(status=404)
    error = error_of(hub, tmp_path)
    assert "lacks a file of 'acme/letters' that it lists" in str(error)
    assert error.exit_code == REFUSED


def test_no_hub_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        endpoint = f"http://127.0.0.1:{sock.getsockname()[1]}"
    with pytest.raises(HubError, match=r"cannot reach the hub at .*Connection refused") as raised:
        Hub(endpoint).repository(REPOSITORY, "main")
    assert raised.value.exit_code == RETRY


def test_something_else_there(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network's login page answers every request."""
    monkeypatch.setattr("json.dumps", lambda _: "<html>log in</html>")
    with pytest.raises(HubError, match="is not a model hub"):
        Hub(hub.endpoint).repository(REPOSITORY, "main")


@pytest.mark.parametrize("commit", ["", "main", "../../x", "a" * 41])
def test_a_commit_that_is_none(commit: str, hub: HubServer, tmp_path: Path) -> None:
    """It becomes a part of addresses, and is recorded."""
    hub.repositories[REPOSITORY].revisions["main"] = commit
    assert "names no commit" in str(error_of(hub, tmp_path))


def test_an_address_that_is_none() -> None:
    with pytest.raises(OptionError, match="HF_ENDPOINT must begin with https://"):
        Hub("hub.example")
