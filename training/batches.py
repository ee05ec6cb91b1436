"""Training batches: images or clips of one size, several questions packed behind each, and labels for every patch.

All questions about an image, a pair of images or a clip share its visual tokens: a tree mask lets each question see the
images and itself only, and its positions start right after them. A question may be a conversation of several turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from training.batch_contents import Asked, RowContents, draw_clip_rows, draw_rows
from training.clips import stamp
from training.easy_vqa import EasyVQAImage
from training.labels import (
    PatchLabels,
    TimelineLabels,
    attention_weights,
    patch_labels,
    stack_labels,
    timeline_labels,
)
from training.network import MERGE, PATCH
from training.qa import AttentionTarget, QAPair, Turns
from training.tool_definitions import Toolset
from training.vocabulary import CHAT_TEMPLATE
from vlrun.models.qwen3_vl.positions import token_positions
from vlrun.prompt.chat_template import ChatTemplate, ImagePlaceholder, Message
from vlrun.vision.grid import Grid

SIZES = {
    (256, 256): 0.28, (288, 224): 0.22, (224, 288): 0.14, (320, 192): 0.1, (192, 320): 0.08, (352, 192): 0.1,
    (192, 352): 0.08,
}  # fmt: skip
"""Width and height to which the runtime resizes images of common aspect ratios (square, 4:3, 3:2, 16:9):
probability."""

TEXT_TOKENS = 232
"""Capacity for questions and answers behind each image."""

NO_TARGET = -100
PREFIX, PAD, TEXT_ONLY = 0, -1, 1000
"""Groups of the tree mask: the shared prefix, padding, and from TEXT_ONLY on questions that do not see the image."""


@dataclass(frozen=True)
class AttentionLabels:
    """Attention targets of M positions: ``rows [M]``, ``positions [M]``, ``targets [M, 1 + P * tokens]``.

    P is the number of images in a row; for the targets see ``attention_weights``.
    """

    rows: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    targets: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """A batch of B rows with P images each; R successive rows share their images.

    The images of a row may be the frame pairs of a clip: two frames each.

    Attributes:
        grid: Patches of every image.
        rgb: ``[B / R * P, H, W, 3]`` uint8; with clips, the frames: ``[B / R * P * 2, H, W, 3]``.
        ids: Token ids ``[B, T]``.
        groups: Group of each token in the tree mask ``[B, T]``.
        targets: Next token ``[B, T]``; ``NO_TARGET`` has no loss.
        weights: Weight of each target's loss ``[B, T]``.
        positions: M-RoPE positions ``[3, B, T]``.
        starts: Index of each image's first visual token ``[P]``.
        labels: Patch labels of all images or frames.
        attention: Attention targets of the answers.
        qa_pairs: For each row its questions, each with the span of its answer's targets.
        sharing: R.
        timeline: What happens in each frame pair of the clips.
    """

    grid: Grid
    rgb: npt.NDArray[np.uint8]
    ids: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    positions: npt.NDArray[np.int64]
    starts: tuple[int, ...]
    labels: PatchLabels
    attention: AttentionLabels
    qa_pairs: list[list[tuple[QAPair, int, int]]]
    sharing: int = 1
    timeline: TimelineLabels | None = None


class Packer:
    """Packs tokenized questions behind images."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._between = self.encode("<|im_end|>\n<|im_start|>assistant\n")
        self._user = self.encode("<|im_start|>user\n")
        self._next = self.encode("<|im_end|>\n<|im_start|>user\n")
        self._end = self.encode("<|im_end|>")[0]
        self._image, self._video = self.encode("<|image_pad|><|video_pad|>")
        self._template = ChatTemplate(CHAT_TEMPLATE, tokenizer, self._image)

    @lru_cache(maxsize=50_000)  # noqa: B019 - one packer lives as long as its process
    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text; control tokens are recognized."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    @lru_cache(maxsize=50_000)  # noqa: B019
    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        """Character span of each token of a text."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).offsets)

    def pack(self, asked: Sequence[Asked], grid: Grid, capacity: int, prefix: PromptPrefix) -> _Row:
        """Build a row: the prefix, then as many conversations as fit into ``capacity`` tokens."""
        positions = token_positions(len(prefix.ids), [(start, grid) for start in prefix.starts])
        row = _Row(capacity, prefix, positions)
        for one in asked:
            token_ids = [self._turn(one, number, prefix) for number in range(len(one.turns))]
            for turn, first in zip(one.turns, row.add(one.turns, token_ids, one.sees_images), strict=False):
                row.attention += [(first + place, target) for place, target in self._attention(turn)]
        return row

    def pack_contents(self, contents: Sequence[RowContents], grid: Grid) -> list[_Row]:
        """Build the rows of a batch, whose images start at the same index."""
        prefixes = [self.build_prefix(grid, one) for one in contents]
        longest = max(len(prefix.ids) for prefix in prefixes)
        return [
            self.pack(one.asked, grid, TEXT_TOKENS, replace(prefix, padding=longest - len(prefix.ids)))
            for one, prefix in zip(contents, prefixes, strict=True)
        ]

    def build_prefix(self, grid: Grid, row: RowContents) -> PromptPrefix:
        """Build the beginning of a prompt: tools and system prompt, if any, text, if any, then the images or clip."""
        ids = list(self._system_turn(row.toolset) if row.toolset else ())
        starts: list[int] = []
        pad = self._video if row.clip else self._image
        for number, name in enumerate(_image_names(row)):
            begin = self._user if number == 0 else ()
            text = row.before_image if number == 0 else ""
            ids += [*begin, *self.encode(f"{text}{name}<|vision_start|>")]
            starts.append(len(ids))
            ids += [*[pad] * grid.tokens, *self.encode("<|vision_end|>")]
        return PromptPrefix(tuple(ids), tuple(starts), text_first=row.text_first)

    def _system_turn(self, toolset: Toolset) -> tuple[int, ...]:
        """The system turn with the tools, as the chat template renders it."""
        system = [Message("system", (toolset.system,))] if toolset.system else []
        whole = self._template.render([*system, Message("user", (ImagePlaceholder(),))], toolset.definitions)
        return self.encode(whole[: whole.index("<|im_start|>user\n")])

    def _turn(self, asked: Asked, number: int, prefix: PromptPrefix) -> tuple[list[int], list[int]]:
        """Ids of a question with its chat markup, and of its answer with the end token."""
        turn = asked.turns[number]
        if number:
            question = (*self._next[1:], *self.encode(turn.question))  # the end token of the answer is there already
        elif not asked.sees_images:
            system = self._system_turn(Toolset((), asked.system)) if asked.system else ()
            question = (*system, *self._user, *self.encode(turn.question))
        else:
            question = () if prefix.text_first else self.encode(turn.question)
        return [*question, *self._between], [*self.encode(turn.answer), self._end]

    def _attention(self, qa: QAPair) -> Iterator[tuple[int, AttentionTarget]]:
        """The tokens of an answer that have an attention target."""
        for place, (start, end) in enumerate(self.spans(qa.answer)):
            yield from islice(
                ((place, target) for target in qa.attention if start < target.end and target.start < end), 1
            )


@dataclass(frozen=True)
class PromptPrefix:
    """The shared beginning of a row.

    ``starts``: index of each image's first visual token in ``ids``; ``padding``: tokens left empty before the first
    image, so that images start at the same index in all rows of a batch; ``text_first``: whether the first question is
    in ``ids``, before the images.
    """

    ids: tuple[int, ...]
    starts: tuple[int, ...]
    padding: int = 0
    text_first: bool = False


class _Row:
    """A row of a batch while it is filled."""

    def __init__(self, capacity: int, prefix: PromptPrefix, positions: npt.NDArray[np.int64]) -> None:
        length = len(prefix.ids) + prefix.padding + capacity
        self.ids = np.zeros(length, np.int64)
        self.groups = np.full(length, PAD)
        self.targets = np.full(length, NO_TARGET)
        self.weights = np.zeros(length, np.float32)
        self.positions = np.zeros((3, length), np.int64)
        self.qa_pairs: list[tuple[QAPair, int, int]] = []
        self.attention: list[tuple[int, AttentionTarget]] = []
        self.starts = tuple(start + prefix.padding for start in prefix.starts)
        self.used = length - capacity
        there = np.r_[: prefix.starts[0], self.starts[0] : self.used]
        self.ids[there] = prefix.ids
        self.groups[there] = PREFIX
        self.positions[:, there] = positions
        self._next_position = int(positions.max()) + 1
        self._conversations = 0

    def add(self, turns: Turns, token_ids: list[tuple[list[int], list[int]]], sees_images: bool) -> list[int]:
        """Append a conversation if it fits.

        Returns:
            For each answer the position that predicts its first token; nothing if the conversation does not fit.
        """
        tokens = [token for question, answer in token_ids for token in (*question, *answer)][:-1]
        begin, end = self.used, self.used + len(tokens)
        if end > len(self.ids):
            return []
        self.ids[begin:end] = tokens
        self.groups[begin:end] = self._conversations + (1 if sees_images else TEXT_ONLY)
        self.positions[:, begin:end] = (self._next_position if sees_images else 0) + np.arange(len(tokens))
        self._conversations += 1
        firsts = []
        for turn, (question, answer) in zip(turns, token_ids, strict=True):
            first = self.used + len(question) - 1  # the token before the answer predicts its first
            self.targets[first : first + len(answer)] = answer
            self.weights[first : first + len(answer)] = len(answer) ** -0.5  # long answers must not outweigh short ones
            self.qa_pairs.append((turn, first, first + len(answer)))
            self.used += len(question) + len(answer)
            firsts.append(first)
        self.used = end
        return firsts


def _image_names(row: RowContents) -> list[str]:
    """The text before each image, as chat templates write it with ``add_vision_id``, or before each frame pair."""
    if row.clip:
        return [f"<{stamp(seconds)} seconds>" for seconds in row.clip.timing.pairs]
    return [f"Picture {number}: " if len(row.scenes) > 1 else "" for number in range(1, len(row.scenes) + 1)]


def _attention(rows: Sequence[_Row], grid: Grid) -> AttentionLabels:
    """Attention labels of several rows."""
    entries = [(number, position, target) for number, row in enumerate(rows) for position, target in row.attention]
    images = len(rows[0].starts)
    targets = [attention_weights(target, grid, images) for _, _, target in entries]
    return AttentionLabels(
        rows=np.array([row for row, _, _ in entries], np.int64),
        positions=np.array([position for _, position, _ in entries], np.int64),
        targets=np.array(targets, np.float32).reshape(-1, 1 + images * grid.tokens),
    )


def make_batch(
    rng: np.random.Generator,
    packer: Packer,
    easy: Sequence[EasyVQAImage],
    images: int,
    domain: str | None = None,
    *,
    text_first: bool | None = None,
    clips: float = 0.0,
) -> Batch:
    """Draw a batch of ``images`` scenes, of mixed domains unless one is given, and of either order unless given.

    The domain ``pair`` has two images in each row; ``tools`` has half as many images, with tools before them; ``clip``
    has clips instead of images. ``clips``: probability of a batch of clips if no domain is given.
    """
    if domain == "clip" or (domain is None and clips and rng.random() < clips):
        contents, sharing = draw_clip_rows(rng, images, text_first=text_first)
        width, height = contents[0].scenes[0].image.size
    else:
        width, height = list(SIZES)[int(rng.choice(len(SIZES), p=list(SIZES.values())))]
        contents, sharing = draw_rows(rng, easy, images, (width, height), domain, text_first=text_first)
    grid = Grid(height // PATCH, width // PATCH, MERGE)
    rows = packer.pack_contents(contents, grid)
    scenes = [scene for one in contents[::sharing] for scene in one.scenes]
    drawn_clips = [one.clip for one in contents if one.clip]
    length = max(row.used for row in rows)
    return Batch(
        grid=grid,
        rgb=np.stack([np.asarray(scene.image) for scene in scenes]),
        ids=np.stack([row.ids[:length] for row in rows]),
        groups=np.stack([row.groups[:length] for row in rows]),
        targets=np.stack([row.targets[:length] for row in rows]),
        weights=np.stack([row.weights[:length] for row in rows]),
        positions=np.stack([row.positions[:, :length] for row in rows], 1),
        starts=rows[0].starts,
        labels=stack_labels([patch_labels(scene, grid) for scene in scenes]),
        attention=_attention(rows, grid),
        qa_pairs=[row.qa_pairs for row in rows],
        sharing=sharing,
        timeline=timeline_labels(drawn_clips, grid) if drawn_clips else None,
    )
