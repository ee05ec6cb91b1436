"""The store of images: owners, shares, expiry, and memory that stays within its limit whatever clients send."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import EncodedImage, GenerationRequest, RequestMessage
from vlrun.server.image_store import CLIENT_SHARE, ENTRY_BYTES, ImageStore, StoredImage, named_bytes
from vlrun.server.limits import MIB, ServerLimits

LIMITS = ServerLimits(stored_images_mib=1, stored_image_seconds=100)
SHARE = MIB // CLIENT_SHARE


class Clock:
    """Seconds that a test sets."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> ImageStore:
    return ImageStore(LIMITS, clock)


def image(name: str = "a", size: int = 1000) -> StoredImage:
    return StoredImage.of(name.encode().ljust(size, b"-"), (4, 3))


def request(*ids: str) -> GenerationRequest:
    parts = [EncodedImage(b"", "low", f"image {number}", each) for number, each in enumerate(ids)]
    return GenerationRequest((RequestMessage("user", (*parts, "What?")),))


def test_an_image_is_named_by_its_content(store: ImageStore) -> None:
    first, again = store.put("", "x", image()), store.put("", "x", image())
    assert again is first
    assert len(first.id) == len("img_") + 64
    assert store.held == first.cost
    assert store.get("", first.id) is first
    assert store.get("", image("b").id) is None


def test_only_its_owner_can_use_or_remove_an_image(store: ImageStore) -> None:
    """An id is a hash: whoever has the picture knows it, and must not learn that another one sent it."""
    kept = store.put("alice", "alice@1", image())
    assert store.get("bob", kept.id) is None
    assert not store.remove("bob", kept.id)
    with pytest.raises(ApiError, match="send it again") as caught:
        store.resolve(request(kept.id), "bob")
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "image_not_found", "image 0")
    other = store.put("bob", "bob@1", image())
    assert other is not kept
    assert store.remove("alice", kept.id)
    assert store.get("bob", kept.id) is other


def test_a_request_gets_the_files_that_it_names(store: ImageStore) -> None:
    one, other = store.put("", "x", image("a")), store.put("", "x", image("b", 2000))
    named = store.resolve(request(one.id, other.id, one.id), "")
    assert [each.encoded for each in named.images] == [one.encoded, other.encoded, one.encoded]
    assert {each.detail for each in named.images} == {"low"}
    assert named_bytes(named) == 3000  # each file once
    sent = GenerationRequest((RequestMessage("user", (EncodedImage(b"file", "auto", "x"),)),))
    assert store.resolve(sent, "") is sent
    assert named_bytes(sent) == 0


def test_an_image_expires_if_nothing_uses_it(store: ImageStore, clock: Clock) -> None:
    used, unused = store.put("", "x", image("a")), store.put("", "x", image("b"))
    assert store.expire() == 100
    clock.seconds = 60
    store.resolve(request(used.id), "")
    assert store.expire() == 40
    clock.seconds = 100
    assert store.get("", unused.id) is None  # at once, although no timer has run
    assert store.expire() == 60
    clock.seconds = 160
    assert store.expire() is None
    assert store.held == 0


@pytest.mark.parametrize("end", ["remove", "expire", "evict"])
def test_nothing_of_an_image_survives_it(store: ImageStore, clock: Clock, end: str) -> None:
    kept = store.put("", "x", image())
    name, gone = kept.id, weakref.ref(kept)
    del kept
    if end == "remove":
        assert store.remove("", name)
        assert not store.remove("", name)
    elif end == "expire":
        clock.seconds = 100
        store.expire()
    else:
        store.put("", "x", image("b", SHARE - ENTRY_BYTES))
    gc.collect()
    assert gone() is None


def test_a_running_request_keeps_the_file_of_an_image_that_is_gone(store: ImageStore) -> None:
    named = store.resolve(request(store.put("", "x", image()).id), "")
    store.remove("", image().id)
    assert named.images[0].encoded == image().encoded


def test_a_client_displaces_its_own_images_first(store: ImageStore) -> None:
    """A client that sends one image after the other must not make another one send its image again."""
    other = store.put("", "other", image("other"))
    large = [store.put("", "x", image(str(number), SHARE // 3)) for number in range(20)]
    assert store.get("", other.id) is other
    assert [number for number, each in enumerate(large) if store.get("", each.id)] == [18, 19]


def test_the_longest_unused_image_makes_room(store: ImageStore) -> None:
    kept = [store.put("", f"client {number}", image(str(number), MIB // 4)) for number in range(3)]
    store.get("", kept[0].id)
    store.put("", "new", image("new", MIB // 4))
    assert [bool(store.get("", each.id)) for each in kept] == [True, False, True]


def test_an_image_above_a_clients_share_is_refused(store: ImageStore) -> None:
    store.put("", "x", image("a", SHARE - ENTRY_BYTES))
    with pytest.raises(ApiError) as caught:
        store.put("", "x", image("b", SHARE - ENTRY_BYTES + 1))
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")
    assert store.get("", image("a", SHARE - ENTRY_BYTES).id)


def test_millions_of_tiny_images_do_not_exceed_the_limit(store: ImageStore) -> None:
    for number in range(3000):
        store.put("", f"client {number % 50}", image(str(number), 1))
        assert store.held <= MIB
    assert len(store._images) <= MIB // ENTRY_BYTES


ACTIONS = st.tuples(
    st.sampled_from(["put", "put", "get", "remove", "wait"]), st.integers(0, 3), st.integers(0, 9), st.integers(0, 60)
)


@given(st.lists(ACTIONS, max_size=60))
def test_the_counts_are_those_of_the_images_whatever_happens(actions: list[tuple[str, int, int, int]]) -> None:
    """Bytes that are counted twice or never given back would fill the store, or not bound it."""
    clock = Clock()
    store = ImageStore(LIMITS, clock)
    for action, client, number, amount in actions:
        owner, sent = f"key {client % 2}", image(f"{number}", 1 + amount * 5000)
        if action == "put":
            store.put(owner, f"client {client}", sent)
        elif action == "get":
            store.get(owner, sent.id)
        elif action == "remove":
            store.remove(owner, sent.id)
        else:
            clock.seconds += amount
            store.expire()
        images = list(store._images.values())
        assert store.held == sum(each.cost for each in images) <= MIB
        for name in {each.client for each in images} | set(store._clients):
            share = store._clients[name]
            assert 0 < share.held == sum(each.cost for each in images if each.client == name) <= SHARE
            assert list(share.keys) == [key for key, each in store._images.items() if each.client == name]
        assert [each.used for each in images] == sorted(each.used for each in images)
