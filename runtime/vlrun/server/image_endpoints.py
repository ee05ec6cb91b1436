"""``/v1/images``: a client sends an image once, and names it in its requests."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
from PIL import Image as PILImage
from starlette.types import ASGIApp, Receive, Scope, Send

from vlrun.engine.request import Cancellation
from vlrun.errors import OptionError
from vlrun.media.enhance import enhance
from vlrun.media.image import Image, open_image
from vlrun.media.region import crop
from vlrun.server.api.image_uploads import PreviewOptions, image_object, parse_preview, parse_upload
from vlrun.server.api_errors import bad_request
from vlrun.server.generation_request import EncodedImage
from vlrun.server.image_store import StoredImage, image_not_found
from vlrun.server.images import opened_encoded
from vlrun.server.limits import ServerLimits
from vlrun.server.request_handler import RequestContext, RequestHandler, owner_of, send_whole

T = TypeVar("T")

PREVIEW_SIDE = 2048
"""Longest side of a preview in pixels: more than screens show."""
PREVIEW_QUALITY = 88
"""Of its JPEG."""


class ImageEndpoints:
    """The endpoints of one service, with the timer that forgets unused images."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler
        self._store = handler.images
        self._limits = handler.limits
        self._timer: asyncio.TimerHandle | None = None

    def routes(self) -> dict[str, Mapping[str, ASGIApp]]:
        """The paths."""
        return {
            "/v1/images": {"POST": self._upload},
            "/v1/images/{id}": {"GET": self._describe, "DELETE": self._delete},
            "/v1/images/{id}/preview": {"GET": self._preview},
        }

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        content_type = dict(scope["headers"]).get(b"content-type", b"")
        async with self._handler.context(scope, receive, "images") as (context, body):

            def check(_: Cancellation) -> StoredImage:
                image = parse_upload(content_type, body, self._limits)
                with opened_encoded(image, self._limits) as opened:
                    size = opened.size
                return StoredImage.of(image.encoded, size)

            stored = await self._in_turn(receive, context, check)
            stored = self._store.put(owner_of(scope), context.client, stored)
            self.forget_unused()
            await self._send_object(send, stored)
            context.outcome = "ok"

    async def _describe(self, scope: Scope, _receive: Receive, send: Send) -> None:
        await self._send_object(send, self._stored(scope))

    async def _delete(self, scope: Scope, _receive: Receive, send: Send) -> None:
        image_id = scope["path_params"]["id"]
        if not self._store.remove(owner_of(scope), image_id):
            raise image_not_found()
        await send_whole(send, msgspec.json.encode({"id": image_id, "object": "image", "deleted": True}))

    async def _preview(self, scope: Scope, receive: Receive, send: Send) -> None:
        options = parse_preview(scope["query_string"])
        stored = self._stored(scope)
        async with self._handler.context(scope, receive, "preview") as (context, _):
            jpeg = await self._in_turn(receive, context, lambda _: preview(stored.encoded, options, self._limits))
            await send_whole(send, jpeg, headers={b"content-type": b"image/jpeg"})
            context.outcome = "ok"

    def _stored(self, scope: Scope) -> StoredImage:
        if stored := self._store.get(owner_of(scope), scope["path_params"]["id"]):
            return stored
        raise image_not_found()

    async def _in_turn(self, receive: Receive, context: RequestContext, work: Callable[[Cancellation], T]) -> T:
        return await self._handler.run_until_left(receive, self._handler.process_image(context, work))

    async def _send_object(self, send: Send, stored: StoredImage) -> None:
        await send_whole(
            send, msgspec.json.encode(image_object(stored.id, stored.encoded, stored.size, self._store.seconds))
        )

    def forget_unused(self) -> None:
        """Forget images that were not used for too long, and again when the next one will be due."""
        seconds = self._store.expire()
        if self._timer is None and seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        self.forget_unused()


def preview(encoded: bytes, options: PreviewOptions, limits: ServerLimits) -> bytes:
    """A JPEG of the image, or of a region, of at most ``PREVIEW_SIDE`` pixels a side. Raises ApiError (400)."""
    image = _reduced(encoded, options, limits)
    pixels = (enhance(image) if options.enhance else image).rgb
    file = io.BytesIO()
    PILImage.fromarray(pixels).save(file, "JPEG", quality=PREVIEW_QUALITY)
    return file.getvalue()


def _reduced(encoded: bytes, options: PreviewOptions, limits: ServerLimits) -> Image:
    """The pixels of a preview. When this returns, nothing refers to those of the image."""
    with opened_encoded(EncodedImage(encoded, "auto", "image"), limits) as opened:
        try:
            shown = crop(opened, options.region) if options.region else opened
        except OptionError as error:
            raise bad_request(error.message, "region") from None
        if max(shown.size) <= PREVIEW_SIDE:
            return shown
        scale = PREVIEW_SIDE / max(shown.size)
        size = max(round(shown.size[0] * scale), 1), max(round(shown.size[1] * scale), 1)
        return open_image(PILImage.fromarray(shown.rgb).resize(size, PILImage.Resampling.BICUBIC, reducing_gap=2))
