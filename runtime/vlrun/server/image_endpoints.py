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
from vlrun.media.video import Video
from vlrun.server.api.image_uploads import PreviewOptions, image_object, parse_preview, parse_upload
from vlrun.server.api_errors import bad_request
from vlrun.server.generation_request import EncodedImage
from vlrun.server.image_store import StoredImage, image_not_found
from vlrun.server.images import image_errors, opened_encoded
from vlrun.server.isolated_media import kind_of, opened_document, opened_video
from vlrun.server.limits import ServerLimits
from vlrun.server.request_handler import RequestContext, RequestHandler, owner_of, send_whole

T = TypeVar("T")

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

            def check(cancellation: Cancellation) -> StoredImage:
                return checked(parse_upload(content_type, body, self._limits), self._limits, cancellation)

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
        if options.page and not stored.pages:
            raise bad_request("pages are for PDF files, and this is none", "page")

        def draw(cancellation: Cancellation) -> bytes:
            return preview(stored.encoded, options, self._limits, cancellation)

        async with self._handler.context(scope, receive, "preview") as (context, _):
            jpeg = await self._in_turn(receive, context, draw)
            await send_whole(send, jpeg, headers={b"content-type": b"image/jpeg"})
            context.outcome = "ok"

    def _stored(self, scope: Scope) -> StoredImage:
        if stored := self._store.get(owner_of(scope), scope["path_params"]["id"]):
            return stored
        raise image_not_found()

    async def _in_turn(self, receive: Receive, context: RequestContext, work: Callable[[Cancellation], T]) -> T:
        return await self._handler.run_until_left(receive, self._handler.process_image(context, work))

    async def _send_object(self, send: Send, stored: StoredImage) -> None:
        await send_whole(send, msgspec.json.encode(image_object(stored, self._store.seconds)))

    def forget_unused(self) -> None:
        """Forget images that were not used for too long, and again when the next one will be due."""
        seconds = self._store.expire()
        if self._timer is None and seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        self.forget_unused()


def checked(image: EncodedImage, limits: ServerLimits, cancellation: Cancellation) -> StoredImage:
    """The image, which can be decoded, or the PDF file or video, which can be opened. Raises ApiError (400)."""
    kind = kind_of(image.encoded)
    if kind == "document":
        with image_errors(image), opened_document(image.encoded, limits, cancellation) as document:
            return StoredImage.of(image.encoded, document.sizes[0], document.sizes)
    if kind == "video":
        with image_errors(image), opened_video(image.encoded, Video(b""), limits, cancellation) as clip:
            return StoredImage.of(image.encoded, clip.size, video=clip.info)
    with opened_encoded(image, limits, cancellation) as opened:
        return StoredImage.of(image.encoded, opened.size)


def preview(encoded: bytes, options: PreviewOptions, limits: ServerLimits, cancellation: Cancellation) -> bytes:
    """A JPEG of the image or a page, or of a region of it. Raises ApiError (400) and AnswerCancelled."""
    image = _reduced(encoded, options, limits, cancellation)
    pixels = (enhance(image) if options.enhance else image).rgb
    file = io.BytesIO()
    PILImage.fromarray(pixels).save(file, "JPEG", quality=PREVIEW_QUALITY)
    return file.getvalue()


def _reduced(encoded: bytes, options: PreviewOptions, limits: ServerLimits, cancellation: Cancellation) -> Image:
    """The pixels of a preview. When this returns, nothing refers to those of the image."""
    image = EncodedImage(encoded, "auto", "page" if options.page else "image", pages=options.page or "1")
    side = None if options.region else options.side
    with opened_encoded(image, limits, cancellation, side) as opened:
        try:
            shown = crop(opened, options.region) if options.region else opened
        except OptionError as error:
            raise bad_request(error.message, "region") from None
        height, width = shown.rgb.shape[:2]
        if max(width, height) <= options.side:
            return shown
        scale = options.side / max(width, height)
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        return open_image(PILImage.fromarray(shown.rgb).resize(size, PILImage.Resampling.BICUBIC, reducing_gap=2))
