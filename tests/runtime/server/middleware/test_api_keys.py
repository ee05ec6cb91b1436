"""API keys: contents and permissions of the file, constant-time comparison. Row 24 of the fault table."""

from __future__ import annotations

from hmac import compare_digest
from pathlib import Path

import pytest

from vlrun.errors import ServiceError
from vlrun.server.middleware.api_keys import ApiKeys

FIRST, SECOND = "sk-first-0123456789", "sk-second:0123456789"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "api-key"
    path.touch(mode=0o600)
    return path


def test_keys_have_given_or_numbered_names(file: Path) -> None:
    file.write_text(f"# keys of the kiosks\r\n\n{FIRST}\nkiosk:  {SECOND} \n{'x' * 16}\n")
    keys = ApiKeys.read(file)
    assert [keys.name_of(key) for key in (FIRST, SECOND, "x" * 16)] == ["key-1", "kiosk", "key-3"]


@pytest.mark.parametrize(
    "guess", ["", FIRST[:-1], FIRST + "0", FIRST.upper(), f" {FIRST}", "kiosk", "\ud800", "ü" * 16]
)
def test_a_wrong_key_has_no_name(file: Path, guess: str) -> None:
    file.write_text(f"{FIRST}\nkiosk: {SECOND}\n")
    assert ApiKeys.read(file).name_of(guess) is None


@pytest.mark.fault(24)
def test_comparison_is_constant_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An early exit leaks the position of a key; ``==`` leaks the length of the correct prefix."""
    file.write_text(f"{FIRST}\n{SECOND}\n{'x' * 16}\n")
    keys, compared = ApiKeys.read(file), []

    def compare(guess: bytes, known: bytes) -> bool:
        compared.append((len(guess), len(known)))
        return compare_digest(guess, known)

    monkeypatch.setattr("hmac.compare_digest", compare)
    for guess in (FIRST, "x" * 16, "y" * 400):
        compared.clear()
        keys.name_of(guess)
        assert compared == [(32, 32)] * 3


def test_keys_are_not_kept_in_plain_text(file: Path) -> None:
    file.write_text(FIRST)
    keys = ApiKeys.read(file)
    assert FIRST not in f"{keys} {keys!r} {vars(keys)}"


INVALID = {
    "no keys": "\n# none\n",
    "a short key": "x" * 15,
    "a long key": "x" * 513,
    "a space inside": "sk-first 0123456789",
    "a tab inside": "sk-first\t0123456789",
    "other letters": "ä" * 20,
    "a key twice": f"{FIRST}\nkiosk: {FIRST}",
    "a name twice": f"kiosk: {FIRST}\nkiosk: {SECOND}",
    "a name that equals a numbered one": f"key-2: {FIRST}\n{SECOND}",
    "a name with a space": f"ki osk: {FIRST}",
    "101 keys": "\n".join(f"sk-0123456789-{number:03d}" for number in range(101)),
    "more than 64 KiB": f"{FIRST}\n" + "#" * 65_536,
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_file_is_an_error_that_shows_no_key(file: Path, name: str) -> None:
    file.write_text(INVALID[name], encoding="utf-8")
    with pytest.raises(ServiceError) as caught:
        ApiKeys.read(file)
    assert str(file) in str(caught.value)
    assert "0123456789" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_100_keys_of_512_characters_are_accepted(file: Path) -> None:
    file.write_text("\n".join(f"{number:0512d}" for number in range(100)))
    assert len(ApiKeys.read(file).digests) == 100


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o604, 0o666, 0o644])
def test_unsafe_file_permissions_are_refused(file: Path, mode: int) -> None:
    file.write_text(FIRST)
    file.chmod(mode)
    with pytest.raises(ServiceError, match="chmod 600"):
        ApiKeys.read(file)


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o640])
def test_group_read_permission_is_accepted(file: Path, mode: int) -> None:
    file.write_text(FIRST)
    file.chmod(mode)
    assert ApiKeys.read(file).name_of(FIRST) == "key-1"


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="cannot be used"):
        ApiKeys.read(tmp_path / "nothing")
    with pytest.raises(ServiceError, match="cannot be used"):
        ApiKeys.read(tmp_path)


def test_systemd_credential(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit sets ``none``, because systemd does not start a service whose credential is missing."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert ApiKeys.credential() is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    for text in ("none", "none\n"):
        file.write_text(text)
        assert ApiKeys.credential() is None
    file.write_text(FIRST)
    keys = ApiKeys.credential()
    assert keys is not None
    assert keys.name_of(FIRST) == "key-1"
    file.write_text("")  # an empty file is a mistake and must not disable the check
    with pytest.raises(ServiceError):
        ApiKeys.credential()
    file.unlink()
    assert ApiKeys.credential() is None
