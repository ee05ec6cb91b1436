"""What the progress line shows from the loading of a model to the first word of an answer."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlrun.cli.progress_line import Describe, ProgressLine, percent_of, seconds_of, timed

if TYPE_CHECKING:
    from vlrun.perf.profile import SpeedProfile
    from vlrun.types.answer import Chunk, Progress
    from vlrun.vlm import VLM


class AnswerProgress:
    """Shows the progress of the answers of one model. Times left come from earlier answers on this machine.

    Args:
        line: Where it is shown.
        vlm: The model, which may still be loading.
        hints: The hints of the model, by which measurements are stored.
        began: When it began to load (``time.monotonic``).
    """

    def __init__(self, line: ProgressLine, vlm: VLM, hints: str, began: float) -> None:
        self.line = line
        self._vlm = vlm
        self._hints = hints
        self._began = began
        self._loaded = False

    def preparing(self) -> None:
        """Show that a question is prepared, or that the model is loading."""
        if not self.line.active:
            return
        if self._loaded:
            self._show("preparing the question")
        else:
            self.line.show(timed(f"loading {self._vlm.manifest.name}", self._speed().load, self._began))

    def answering(self, answers: int) -> None:
        """Show that a question is answered whose answers are printed when all are complete."""
        self._show("answering" if answers == 1 else f"answering {answers} times")

    def watch(
        self,
        chunks: Generator[Chunk],
        images: int,
        *,
        text_shown: bool = True,
        thinking_shown: bool = True,
        video: bool = False,
    ) -> Generator[Chunk]:
        """Pass on the chunks that are no progress, and show the progress while nothing of them is printed.

        Args:
            chunks: The stream of an answer.
            images: New images of the question, and pairs of frames of its videos.
            video: Whether they are those of a single video.
            text_shown: Whether the text is printed as it comes. Otherwise the progress goes on until it is complete.
            thinking_shown: Whether the reasoning is printed; the caller ends its line at the first text.
        """
        try:
            with closing(chunks):
                label = "reading the video" if video else "reading the image"
                if images > 1 and not video:
                    label = f"reading {images} images"
                yield from self._shown(chunks, images, label, (text_shown, thinking_shown))
        finally:
            self.line.clear()

    def _shown(self, chunks: Iterable[Chunk], images: int, label: str, printed: tuple[bool, bool]) -> Iterator[Chunk]:
        (text_shown, thinking_shown), shown, printing = printed, "", False
        for chunk in chunks:
            self._loaded = True
            if chunk.progress is not None:
                if not printing:
                    self.line.show(self._describe(chunk.progress, images, label))
                continue
            printing = printing or bool((chunk.text and text_shown) or (chunk.reasoning and thinking_shown))
            if printing or chunk.notes or chunk.answer is not None:
                self.line.clear()
            yield chunk
            if chunk.text and not text_shown:
                printing = False
            doing = "thinking" if chunk.reasoning else "answering"
            if not (printing or chunk.notes or chunk.answer) and doing != shown:
                shown = doing
                self._show(doing)

    def _show(self, label: str) -> None:
        self.line.show(timed(label, None, time.monotonic()))

    def _describe(self, progress: Progress, images: int, label: str) -> Describe:
        speed, began = self._speed(), time.monotonic()
        share = progress.done / max(progress.total, 1)
        if progress.phase == "vision":
            return _Vision(label, progress, images, speed, self._vlm, began)
        rest = progress.total - progress.done
        return timed("prefill", None if speed.prefill is None else speed.prefill * rest, began, share)

    def _speed(self) -> SpeedProfile:
        from vlrun.perf.history import load_history
        from vlrun.perf.profile import SpeedProfile, fastest

        stored = load_history(self._vlm.fingerprint, self._hints).profile(time.time())
        return fastest([stored, SpeedProfile(vision=self._vlm.image_encoder.seconds)])


@dataclass(frozen=True)
class _Vision:
    """Describes the encoding of images. Only an estimate tells how far the encoder is within an image."""

    label: str
    progress: Progress
    images: int
    speed: SpeedProfile
    vlm: VLM
    began: float

    def __call__(self) -> str:
        done, total = self.progress.done, max(self.progress.total, 1)
        tokens, seconds = self.vlm.image_encoder.running or (0, 0.0)
        expected = self.speed.vision_seconds(total // max(self.images, 1))
        current = self.speed.vision_seconds(tokens)
        if expected is None or current is None or (tokens and seconds >= current):
            return seconds_of(self.label, time.monotonic() - self.began, done / total)
        share = (done + (tokens * seconds / current if tokens else 0)) / total
        return percent_of(self.label, share, expected * max(self.images, 1) * (1 - share))
