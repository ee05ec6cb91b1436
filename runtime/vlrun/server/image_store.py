"""Images that clients sent once, and name in later requests: ``vlrun:img_...``.

Kept in memory only, as the bytes of their files, each for the API key that sent it. An image that a running request
uses may be removed: the request has the bytes, which count as its own.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from vlrun.media.video_file import VideoInfo
from vlrun.server.api_errors import ApiError
from vlrun.server.generation_request import EncodedImage, GenerationRequest, Part
from vlrun.server.limits import MIB, ServerLimits

CLIENT_SHARE = 2
"""A client may use half of the store: then another one finds its images again."""
ENTRY_BYTES = 1024
"""What an entry takes besides its file. Millions of tiny images would need more memory than the limit says."""
PAGE_BYTES = 128
"""What the size of a page takes."""


@dataclass(eq=False)
class StoredImage:
    """An image, a PDF file or a video.

    ``size``: width and height as it is shown, upright; ``pages``: the sizes of a PDF file's pages, of which the first
    is its ``size``; ``video``: what a video has; ``used``: when it was last sent or named.
    """

    id: str
    encoded: bytes
    size: tuple[int, int]
    pages: Sequence[tuple[int, int]] = ()
    video: VideoInfo | None = None
    client: str = ""
    used: float = 0.0

    @classmethod
    def of(
        cls,
        encoded: bytes,
        size: tuple[int, int],
        pages: Sequence[tuple[int, int]] = (),
        video: VideoInfo | None = None,
    ) -> StoredImage:
        """An image whose id is the hash of its file."""
        return cls(f"img_{hashlib.sha256(encoded).hexdigest()}", encoded, size, pages, video)

    @property
    def cost(self) -> int:
        """Bytes that it takes."""
        return len(self.encoded) + ENTRY_BYTES + PAGE_BYTES * len(self.pages)


@dataclass(eq=False)
class _Share:
    """The images of a client, the longest unused one first."""

    keys: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)
    held: int = 0


class ImageStore:
    """Images by owner, the name of an API key, and id. Thread-safe. ``now``: a clock in seconds."""

    def __init__(self, limits: ServerLimits, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds = limits.stored_image_seconds
        self.held = 0
        self._limit = limits.stored_images_mib * MIB
        self._now = now
        self._images: OrderedDict[tuple[str, str], StoredImage] = OrderedDict()  # the longest unused one first
        self._clients: dict[str, _Share] = {}
        self._lock = threading.Lock()

    def put(self, owner: str, client: str, image: StoredImage) -> StoredImage:
        """Keep an image, and drop the client's and then all longest unused ones to make room for it.

        Raises ApiError (413) for an image that is larger than a client's share.
        """
        share = self._limit // CLIENT_SHARE
        if image.cost > share:
            raise ApiError(413, f"the image is larger than {share // MIB} MiB, a client's share", "request_too_large")
        with self._lock:
            if known := self._use(owner, image.id):
                return known
            while (own := self._clients.get(client)) and own.held + image.cost > share:
                self._drop(next(iter(own.keys)))
            while self.held + image.cost > self._limit:
                self._drop(next(iter(self._images)))
            image.client, image.used = client, self._now()
            self._images[owner, image.id] = image
            own = self._clients.setdefault(client, _Share())
            own.keys[owner, image.id] = None
            own.held += image.cost
            self.held += image.cost
        return image

    def get(self, owner: str, image_id: str) -> StoredImage | None:
        """An image, which is used by this; None if it is not here, or not this owner's."""
        with self._lock:
            return self._use(owner, image_id)

    def remove(self, owner: str, image_id: str) -> bool:
        """Forget an image, and say whether it was here."""
        with self._lock:
            found = (owner, image_id) in self._images
            if found:
                self._drop((owner, image_id))
            return found

    def expire(self) -> float | None:
        """Forget images that were not used for too long. Return the seconds until the next one, None without images."""
        with self._lock:
            while self._images:
                key, oldest = next(iter(self._images.items()))
                remaining = oldest.used + self.seconds - self._now()
                if remaining > 0:
                    return remaining
                self._drop(key)
            return None

    def resolve(self, request: GenerationRequest, owner: str) -> GenerationRequest:
        """The request with the files of the images that it names. Raises ApiError (404) for one that is not here."""
        if not any(image.reference for image in request.images):
            return request

        def resolved(part: Part) -> Part:
            if not isinstance(part, EncodedImage) or not part.reference:
                return part
            if stored := self.get(owner, part.reference):
                return replace(part, encoded=stored.encoded)
            raise image_not_found(part.param)

        messages = (replace(each, parts=tuple(map(resolved, each.parts))) for each in request.messages)
        return replace(request, messages=tuple(messages))

    def _use(self, owner: str, image_id: str) -> StoredImage | None:
        image = self._images.get((owner, image_id))
        if image is None:
            return None
        if image.used + self.seconds <= self._now():
            self._drop((owner, image_id))
            return None
        image.used = self._now()
        self._images.move_to_end((owner, image_id))
        self._clients[image.client].keys.move_to_end((owner, image_id))
        return image

    def _drop(self, key: tuple[str, str]) -> None:
        image = self._images.pop(key)
        self.held -= image.cost
        own = self._clients[image.client]
        own.held -= image.cost
        del own.keys[key]
        if not own.keys:
            del self._clients[image.client]


def named_bytes(request: GenerationRequest) -> int:
    """Bytes of the stored files that a resolved request uses, each once."""
    return sum({image.reference: len(image.encoded) for image in request.images if image.reference}.values())


def image_not_found(param: str | None = None) -> ApiError:
    """A 404."""
    return ApiError(404, "the service no longer has this image: send it again", "image_not_found", param)
