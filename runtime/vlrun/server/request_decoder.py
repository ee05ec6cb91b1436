"""The conversation of a request with its images and videos decoded: as the model sees them, and no larger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from vlrun.engine.request import Cancellation
from vlrun.errors import AnswerCancelled
from vlrun.media.clip import Clip
from vlrun.media.image import Image
from vlrun.media.video import Video
from vlrun.prompt.builder import clips_of
from vlrun.server.generation_request import EncodedImage, GenerationRequest
from vlrun.server.images import as_requested, encoded_size, image_errors, opened_encoded
from vlrun.server.isolated_media import kind_of, opened_document, opened_video
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Detail, Options
from vlrun.types.turn import Turn
from vlrun.vlm import VLM


class RequestDecoder:
    """Decodes the images of requests for a model. Its methods are called in threads."""

    def __init__(self, vlm: VLM, limits: ServerLimits) -> None:
        self._vlm = vlm
        self._limits = limits

    def check_visual_tokens(self, request: GenerationRequest) -> None:
        """Check the sizes of images of which the model sees all, before any is decoded."""
        whole = [image for image in request.images if image.region is None]
        images = [image for image in whole if kind_of(image.encoded) not in ("document", "video")]
        if sizes := [(encoded_size(image, self._limits), image.detail) for image in images]:
            self._vlm.builder.check_visual_tokens(sizes, request.effective_options, self._vlm.known_context)

    def turns(self, request: GenerationRequest, cancellation: Cancellation) -> list[Turn]:
        """The conversation with decoded images, of which only the pixels are kept that the model sees: large images of
        all requests are decoded one after another. Raises ApiError and AnswerCancelled.
        """
        turns: list[Turn] = []
        labels = _document_labels(request.images)
        room = self._limits.max_images - len(request.images)
        for message in request.messages:
            parts: list[str | Image | Clip] = []
            details: list[Detail] = []
            among = sum(isinstance(part, EncodedImage) and _is_video(part) for part in message.parts)
            open_clip = partial(self._clip, options=request.effective_options, among=among, before=clips_of(turns))
            for part in message.parts:
                if isinstance(part, str):
                    parts.append(part)
                    continue
                if cancellation.cancelled():
                    raise AnswerCancelled("the answer was cancelled")
                opened: Sequence[Image | Clip]
                if part in labels:
                    opened = self._pages(part, labels[part], room + 1, request.effective_options, cancellation)
                    room -= len(opened) - 1
                elif _is_video(part):
                    opened = [open_clip(part, cancellation)]
                else:
                    opened = [self._resized(part, request.effective_options, cancellation)]
                parts += opened
                details += [part.detail] * len(opened)
            turns.append(Turn(message.role, tuple(parts), message.tool_calls, tuple(details), message.reasoning))
        return turns

    def _resized(self, image: EncodedImage, options: Options, cancellation: Cancellation) -> Image:
        """Decode, crop, enhance and resize an image. When this returns, nothing refers to its original pixels."""
        with opened_encoded(image, self._limits, cancellation) as opened:
            return self._vlm.builder.resize(as_requested(opened, image), options, image.detail)

    def _clip(
        self, image: EncodedImage, cancellation: Cancellation, options: Options, among: int, before: Sequence[Clip]
    ) -> Clip:
        """Decode the frames of a video that the model sees. Raises as ``PromptBuilder.open_clip``, which see."""
        video, builder, context = image.video or Video(b""), self._vlm.builder, self._vlm.known_context
        with image_errors(image), opened_video(image.encoded, video, self._limits, cancellation) as pending:
            detailed = replace(options, detail=image.detail)
            return builder.open_clip(pending, detailed, context, among=among, before=before)

    def _pages(
        self, image: EncodedImage, label: str, max_pages: int, options: Options, cancellation: Cancellation
    ) -> list[Image]:
        """Draw the pages of a PDF file with the pixels that the model sees. ``label``: follows the number of each."""
        builder, images = self._vlm.builder, []
        with image_errors(image), opened_document(image.encoded, self._limits, cancellation) as document:
            pages = [(number, document.sizes[number - 1]) for number in document.choose(image.pages, max_pages)]
            is_whole = image.region is None and not image.enhance
            if is_whole:
                sizes = [(size, image.detail) for _, size in pages]
                builder.check_visual_tokens(sizes, options, self._vlm.known_context)
            for number, size in pages:
                shown = builder.shown_size(size, options, image.detail) if is_whole else size
                with document.page(number, shown, f"Page {number}{label}") as page:
                    images.append(builder.resize(as_requested(page, image), options, image.detail))
        return images


def _is_video(image: EncodedImage) -> bool:
    return kind_of(image.encoded) == "video"


def _document_labels(images: Sequence[EncodedImage]) -> dict[EncodedImage, str]:
    """What the prompt calls each PDF file of a request, behind the number of a page; nothing if there is only one."""
    documents = [image for image in images if kind_of(image.encoded) == "document"]
    files = list(dict.fromkeys((image.encoded, image.name) for image in documents))
    if len(files) < 2:
        return dict.fromkeys(documents, "")
    names = {file: file[1] or f"file {number}" for number, file in enumerate(files, 1)}
    return {image: f" of {names[image.encoded, image.name]}" for image in documents}
