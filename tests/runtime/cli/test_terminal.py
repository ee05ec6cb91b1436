"""Text for a terminal."""

from __future__ import annotations

from vlrun.cli.terminal import printable


def test_control_and_bidi_characters_are_removed() -> None:
    assert printable("pay \u202e001\u202c") == "pay 001"
    assert printable("a\x1b[31m\x07b\r\nc\td\x9be") == "a[31mb\nc\tde"
