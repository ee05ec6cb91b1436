"""Reading the clipboard with the programs of the desktop, which are scripts here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vlrun.cli.clipboard import read_clipboard
from vlrun.errors import MediaNotFound, MediaTooLarge, OptionError

LIMIT = 1000


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, and no desktop."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    for variable in ("WAYLAND_DISPLAY", "DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    return folder


def install(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_each_desktop_has_its_program(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(programs, "xclip", 'printf "X11 %s" "$*"')
    install(programs, "wl-paste", 'printf "Wayland %s" "$*"')
    monkeypatch.setenv("DISPLAY", ":0")
    assert read_clipboard(LIMIT) == b"X11 -selection clipboard -out -target image/png"
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert read_clipboard(LIMIT) == b"Wayland --no-newline --type image/png"


def test_a_photo_may_be_there_as_jpeg_only(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    install(programs, "xclip", '[ "$5" = image/jpeg ] && printf JPEG')
    assert read_clipboard(LIMIT) == b"JPEG"
    install(programs, "xclip", "echo 'Error: target image/png not available' >&2; exit 1")
    with pytest.raises(MediaNotFound, match="there is no image in the clipboard"):
        read_clipboard(LIMIT)
    install(programs, "xclip", "head -c 2000 /dev/zero")
    with pytest.raises(MediaTooLarge, match="more than 1,000 bytes"):
        read_clipboard(LIMIT)


def test_without_a_desktop_or_a_program_the_error_says_so(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="--clipboard needs a desktop"):
        read_clipboard(LIMIT)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    with pytest.raises(OptionError, match="needs the program 'wl-paste': run sudo apt install wl-clipboard"):
        read_clipboard(LIMIT)
    monkeypatch.setenv("DISPLAY", ":0")  # X programs run on most Wayland desktops, too
    install(programs, "xclip", "echo X11")
    assert read_clipboard(LIMIT) == b"X11\n"
