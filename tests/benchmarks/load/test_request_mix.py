"""The mix of requests is reproducible and complete."""

from __future__ import annotations

from benchmarks.load.images import ImageSet
from benchmarks.load.request_mix import RequestMix


def test_every_kind_of_request_is_drawn() -> None:
    """Guards the mix: all kinds occur, and the same seed gives the same requests."""
    images = ImageSet(4, 1)
    mixes = RequestMix(images, "y"), RequestMix(images, "y")
    drawn, again = ([mix.next() for _ in range(300)] for mix in mixes)
    assert [one.body for one in drawn] == [one.body for one in again]
    assert {one.name.partition(",")[0] for one in drawn} == {
        *("an image", "the shelf", "text", "a conversation", "a schema", "two answers", "a new image"),
        *("tokens counted", "a form", "a wrong request"),
    }
    assert {one.status for one in drawn} == {200, 400, 404}
    assert {one.stream for one in drawn} == {True, False}
