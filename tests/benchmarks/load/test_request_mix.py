"""The mix of requests is reproducible and complete."""

from __future__ import annotations

from benchmarks.load.images import ImageSet
from benchmarks.load.request_mix import RequestMix


def test_every_kind_is_drawn_and_a_seed_repeats_the_mix() -> None:
    images = ImageSet(4, 1)
    mixes = RequestMix(images, "y"), RequestMix(images, "y")
    drawn, again = ([mix.next() for _ in range(300)] for mix in mixes)
    assert [request.body for request in drawn] == [request.body for request in again]
    assert {request.name.partition(",")[0] for request in drawn} == {
        *("an image", "the shelf", "text", "a conversation", "a schema", "two answers", "a new image"),
        *("tokens counted", "a form", "a wrong request"),
    }
    assert {request.status for request in drawn} == {200, 400, 404}
    assert {request.stream for request in drawn} == {True, False}
