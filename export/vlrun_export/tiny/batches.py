"""Batches for training: pictures of one size, several questions packed behind each, and labels for every patch.

All questions of a picture share its visual tokens: a tree mask lets each see the picture and itself alone, and its
positions begin right behind the picture. Knows scenes, questions and the tokenizer, and of the network the size of a
patch; does not know tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
import numpy.typing as npt
from PIL import Image
from tokenizers import Tokenizer

from vlrun.model.positions import Grid, token_positions
from vlrun_export.tiny.easy import EasyPicture
from vlrun_export.tiny.labels import PatchLabels, look_target, patch_labels, stack_labels
from vlrun_export.tiny.network import MERGE, PATCH
from vlrun_export.tiny.pages import copying
from vlrun_export.tiny.questions import Exchange, Look, exchanges
from vlrun_export.tiny.scenes import Scene, draw_scene
from vlrun_export.tiny.wording import SELF

SIZES = {
    (256, 256): 0.28, (288, 224): 0.22, (224, 288): 0.14, (320, 192): 0.1, (192, 320): 0.08, (352, 192): 0.1,
    (192, 352): 0.08,
}  # fmt: skip
"""Width and height of what common proportions are resized to, and how often: square, 4:3, 3:2 and 16:9."""

DOMAINS = {"shelf": 0.46, "shapes": 0.11, "easy": 0.11, "tag": 0.13, "sign": 0.19}
TEXT_TOKENS = 184
"""Room for questions and answers behind each picture."""
MOST_QUESTIONS = 12
SELF_CHANCE = 0.04
COPY_CHANCE = 0.5
"""How often a row asks who the model is, or for a copy of a page, without the picture."""

NO_TARGET = -100
PREFIX, PAD, ALONE = 0, -1, 1000
"""Groups of the tree mask: the shared picture, padding, and from ALONE on exchanges that do not see the picture."""


@dataclass(frozen=True)
class Looks:
    """Where M positions should look: ``rows [M]``, ``positions [M]``, ``targets [M, 1 + tokens]`` (``look_target``)."""

    rows: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    targets: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """``rgb [B, H, W, 3]`` uint8; ``ids``, ``groups``, ``targets [B, T]`` (``NO_TARGET``: no loss), ``weights [B, T]``,
    ``positions [3, B, T]``; ``start``: index of the first visual token; ``labels``: of each picture;
    ``looks``: where answers should look; ``exchanges``: what was asked, with the span of its answer's targets.
    """

    grid: Grid
    rgb: npt.NDArray[np.uint8]
    ids: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    positions: npt.NDArray[np.int64]
    start: int
    labels: PatchLabels
    looks: Looks
    exchanges: list[list[tuple[Exchange, int, int]]]


class Packer:
    """Puts questions behind pictures, in tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._head = self.encode("<|im_start|>user\n<|vision_start|>")
        self._between = self.encode("<|im_end|>\n<|im_start|>assistant\n")
        self._user = self.encode("<|im_start|>user\n")
        self._end = self.encode("<|im_end|>")[0]
        self._vision_end = self.encode("<|vision_end|>")[0]
        self._image = self.encode("<|image_pad|>")[0]

    @lru_cache(maxsize=50_000)  # noqa: B019 - one packer lives as long as its process
    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text; control tokens are read as such."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    @lru_cache(maxsize=50_000)  # noqa: B019
    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        """The characters, from and to, of each token of a text."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).offsets)

    def pack(self, asked: Iterable[tuple[Exchange, bool]], grid: Grid, room: int) -> _Row:
        """One row: the picture, then as many exchanges as fit into ``room`` tokens. The flag says whether an exchange
        sees the picture.
        """
        start = len(self._head)
        prefix = [*self._head, *[self._image] * grid.tokens, self._vision_end]
        row = _Row(len(prefix) + room, prefix, token_positions(len(prefix), [(start, grid)]), start)
        for exchange, sees in asked:
            question = [*(() if sees else self._user), *self.encode(exchange.question), *self._between]
            first = row.add(exchange, question, [*self.encode(exchange.answer), self._end], sees)
            if first is not None:
                row.looks += [(first + place, look) for place, look in self._looks(exchange)]
        return row

    def _looks(self, exchange: Exchange) -> Iterator[tuple[int, Look]]:
        """Which token of an answer needs which look."""
        for place, (start, end) in enumerate(self.spans(exchange.answer)):
            yield from islice(((place, look) for look in exchange.looks if start < look.end and look.start < end), 1)


class _Row:
    """One row of a batch while it is filled."""

    def __init__(self, length: int, prefix: list[int], positions: npt.NDArray[np.int64], start: int) -> None:
        self.ids = np.zeros(length, np.int64)
        self.groups = np.full(length, PAD)
        self.targets = np.full(length, NO_TARGET)
        self.weights = np.zeros(length, np.float32)
        self.positions = np.zeros((3, length), np.int64)
        self.exchanges: list[tuple[Exchange, int, int]] = []
        self.looks: list[tuple[int, Look]] = []
        self.start = start
        self.used = len(prefix)
        self.ids[: self.used] = prefix
        self.groups[: self.used] = PREFIX
        self.positions[:, : self.used] = positions
        self._following = int(positions.max()) + 1

    def add(self, exchange: Exchange, question: list[int], answer: list[int], sees: bool) -> int | None:
        """Put an exchange behind the others if it fits; the position that predicts its answer's first token."""
        tokens = question + answer[:-1]
        begin, end = self.used, self.used + len(tokens)
        if end > len(self.ids):
            return None
        first = begin + len(question) - 1  # the token before the answer predicts its first
        self.ids[begin:end] = tokens
        self.groups[begin:end] = len(self.exchanges) + (1 if sees else ALONE)
        self.positions[:, begin:end] = (self._following if sees else 0) + np.arange(len(tokens))
        self.targets[first : first + len(answer)] = answer
        self.weights[first : first + len(answer)] = len(answer) ** -0.5  # long answers must not drown the short
        self.exchanges.append((exchange, first, first + len(answer)))
        self.used = end
        return first


def _looks(rows: Sequence[_Row], grid: Grid) -> Looks:
    """Where the answers of several rows should look."""
    entries = [(number, position, look) for number, row in enumerate(rows) for position, look in row.looks]
    targets = [look_target(look, grid) for _, _, look in entries]
    return Looks(
        rows=np.array([row for row, _, _ in entries], np.int64),
        positions=np.array([position for _, position, _ in entries], np.int64),
        targets=np.array(targets, np.float32).reshape(-1, 1 + grid.tokens),
    )


def make_batch(
    rng: np.random.Generator, packer: Packer, easy: Sequence[EasyPicture], pictures: int, domain: str | None = None
) -> Batch:
    """A batch of ``pictures`` scenes, of mixed domains unless one is given."""
    width, height = list(SIZES)[int(rng.choice(len(SIZES), p=list(SIZES.values())))]
    grid = Grid(height // PATCH, width // PATCH, MERGE)
    drawn = [_draw(domain or _domain(rng), (width, height), rng, easy) for _ in range(pictures)]
    rows = [packer.pack(_with_text(asked, rng), grid, TEXT_TOKENS) for _, asked in drawn]
    return Batch(
        grid=grid,
        rgb=np.stack([np.asarray(scene.image) for scene, _ in drawn]),
        ids=np.stack([row.ids for row in rows]),
        groups=np.stack([row.groups for row in rows]),
        targets=np.stack([row.targets for row in rows]),
        weights=np.stack([row.weights for row in rows]),
        positions=np.stack([row.positions for row in rows], 1),
        start=rows[0].start,
        labels=stack_labels([patch_labels(scene, grid) for scene, _ in drawn]),
        looks=_looks(rows, grid),
        exchanges=[row.exchanges for row in rows],
    )


def _domain(rng: np.random.Generator) -> str:
    return str(rng.choice(list(DOMAINS), p=list(DOMAINS.values())))


def _draw(
    domain: str, size: tuple[int, int], rng: np.random.Generator, easy: Sequence[EasyPicture]
) -> tuple[Scene, list[Exchange]]:
    if domain == "easy":
        picture = easy[int(rng.integers(len(easy)))]
        resample = Image.Resampling.NEAREST if rng.random() < 0.3 else Image.Resampling.BICUBIC
        scene = Scene("easy", picture.image.resize(size, resample))
        return scene, [picture.exchanges[i] for i in rng.permutation(len(picture.exchanges))[:MOST_QUESTIONS]]
    scene = draw_scene(domain, size, rng)
    return scene, list(islice(exchanges(scene, rng), MOST_QUESTIONS))


def _with_text(asked: Sequence[Exchange], rng: np.random.Generator) -> Iterator[tuple[Exchange, bool]]:
    if rng.random() < SELF_CHANCE:
        language = "en" if rng.random() < 0.5 else "zh"
        questions, answer = SELF[language]
        yield Exchange("self", language, str(rng.choice(questions)), answer), False
    if rng.random() < COPY_CHANCE:
        yield copying(rng), False
        yield copying(rng, lines=1), False
    yield from ((exchange, True) for exchange in asked)
