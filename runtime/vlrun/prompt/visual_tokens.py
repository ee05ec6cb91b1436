"""Puts visual tokens in place of the placeholders that a chat template writes, as the reference's processor does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vlrun.errors import OptionError
from vlrun.prompt.spans import Span


@dataclass(frozen=True)
class ClipTokens:
    """The visual tokens of a video: ``tokens`` for each pair of frames, whose times are ``seconds``."""

    seconds: tuple[float, ...]
    tokens: int


@dataclass
class Piece:
    """Token ids, and the text after them.

    Attributes:
        visual_at: Index of the first visual token among the ids; None if there is none.
    """

    ids: tuple[int, ...]
    text: str
    visual_at: int | None = None


class VisualTokens:
    """The visual tokens of a prompt.

    Args:
        image_token: Id of the placeholder of an image.
        video_token: Id of the placeholder of a video; None for a model without videos.
        counts: Visual tokens of each image and video, in order.
    """

    def __init__(self, image_token: int, video_token: int | None, counts: Sequence[int | ClipTokens]) -> None:
        self._image_token = image_token
        self._video_token = video_token
        self._counts = counts

    def expand(self, spans: Sequence[Span], texts: Sequence[str]) -> list[Piece]:
        """Return the prompt in pieces. The time of a pair of frames is a text that is tokenized with what is before it.

        Args:
            spans: What is not text.
            texts: The texts before the spans, and after the last one.

        Raises:
            OptionError: There are more or fewer placeholders than images and videos.
        """
        pieces = [Piece((), texts[0])]
        used = 0
        following = iter(zip(spans, texts[1:], strict=True))
        for span, text in following:
            if span.generated or span.ids not in ((self._image_token,), (self._video_token,)):
                pieces.append(Piece(span.ids, text))
                continue
            if used == len(self._counts):
                raise OptionError("the prompt has more image placeholders than images")
            count = self._counts[used]
            used += 1
            if isinstance(count, ClipTokens) != (span.ids == (self._video_token,)):
                raise OptionError("the model's chat template shows images and videos in another order")
            if isinstance(count, ClipTokens):
                self._add_clip(pieces, following, count, span.ids[0])
            else:
                pieces.append(Piece(span.ids * count, text, 0))
        if used != len(self._counts):
            raise OptionError(f"the prompt has {used} image placeholders for {len(self._counts)} images")
        return pieces

    @staticmethod
    def _add_clip(pieces: list[Piece], following: Iterator[tuple[Span, str]], clip: ClipTokens, token: int) -> None:
        """Replace the placeholder of a video together with the control tokens before and after it."""
        end = next(following, None)
        if end is None or len(pieces) < 2 or pieces[-1].text:
            raise OptionError("the model's chat template writes no control tokens around videos")
        start, (end_span, text) = pieces.pop(), end
        for seconds in clip.seconds:
            pieces[-1].text += f"<{seconds:.1f} seconds>"
            pieces.append(Piece((*start.ids, *(token,) * clip.tokens, *end_span.ids), "", len(start.ids)))
        pieces[-1].text = text
