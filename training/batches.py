"""Batches for training: images of one size, several questions packed behind each, and labels for every patch.

All questions of an image, or of a pair, share its visual tokens: a tree mask lets each see the images and itself
alone, and its positions begin right behind them. A question may be a conversation of several turns. Knows scenes,
questions and the tokenizer, and of the network the size of a patch; does not know tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from tokenizers import Tokenizer

from training.calling import conversations, toolbox_for
from training.easy import EasyImage
from training.inquiries import Turns, inquiries, locating
from training.labels import PatchLabels, look_target, patch_labels, stack_labels
from training.network import MERGE, PATCH
from training.pages import copying
from training.pairs import PAIR_DOMAINS, about_pairs
from training.questions import Exchange, Look, exchanges
from training.scenes import Scene, draw_scene
from training.toolbox import Toolbox
from training.vocabulary import CHAT_TEMPLATE
from training.wording import SELF
from vlrun.models.qwen3_vl.positions import token_positions
from vlrun.prompt.chat_template import ChatTemplate, ImagePlaceholder, Message
from vlrun.vision.grid import Grid

SIZES = {
    (256, 256): 0.28, (288, 224): 0.22, (224, 288): 0.14, (320, 192): 0.1, (192, 320): 0.08, (352, 192): 0.1,
    (192, 352): 0.08,
}  # fmt: skip
"""Width and height of what common proportions are resized to, and how often: square, 4:3, 3:2 and 16:9."""

DOMAINS = {"shelf": 0.46, "shapes": 0.11, "easy": 0.11, "tag": 0.13, "sign": 0.19}
TEXT_TOKENS = 232
"""Room for questions and answers behind each image."""
MOST_QUESTIONS = 12
TASKS_SHARE = 0.35
LOCATE_CHANCE, TURNS_CHANCE = 0.4, 0.3
"""How many of the questions are those of a task, and how often a row has boxes first, or a conversation."""
PAIR_CHANCE = 0.16
"""How many batches show images in pairs."""
TOOLS_CHANCE = 0.5
"""How many batches have tools before the image: half as many images, for their rows are long."""
TOOLS_DOMAINS = {"shelf": 0.5, "shapes": 0.1, "tag": 0.2, "sign": 0.2}
TOOLS = (0.75, 0.2, 0.05)
"""How often there are one, two and three of them."""
SELF_CHANCE = 0.04
COPY_CHANCE = 0.3
"""How often a row asks who the model is, or for a copy of a page, without the image."""

NO_TARGET = -100
PREFIX, PAD, ALONE = 0, -1, 1000
"""Groups of the tree mask: the shared image, padding, and from ALONE on exchanges that do not see the image."""


@dataclass(frozen=True)
class Looks:
    """Where M positions should look: ``rows [M]``, ``positions [M]``, ``targets [M, 1 + P * tokens]`` for P images a
    row (``look_target``).
    """

    rows: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    targets: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """``rgb [B * P, H, W, 3]`` uint8, P images a row; ``ids``, ``groups``, ``targets [B, T]`` (``NO_TARGET``: no
    loss), ``weights [B, T]``, ``positions [3, B, T]``; ``starts [P]``: index of each image's first visual token;
    ``labels``: of each image; ``looks``: where answers should look; ``exchanges``: what was asked, with the span of
    its answer's targets.
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
    looks: Looks
    exchanges: list[list[tuple[Exchange, int, int]]]


class Packer:
    """Puts questions behind images, in tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._between = self.encode("<|im_end|>\n<|im_start|>assistant\n")
        self._user = self.encode("<|im_start|>user\n")
        self._next = self.encode("<|im_end|>\n<|im_start|>user\n")
        self._end = self.encode("<|im_end|>")[0]
        self._image = self.encode("<|image_pad|>")[0]
        self._template = ChatTemplate(CHAT_TEMPLATE, tokenizer, self._image)

    @lru_cache(maxsize=50_000)  # noqa: B019 - one packer lives as long as its process
    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text; control tokens are read as such."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    @lru_cache(maxsize=50_000)  # noqa: B019
    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        """The characters, from and to, of each token of a text."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).offsets)

    def pack(self, asked: Iterable[tuple[Turns, bool]], grid: Grid, room: int, shown: Shown) -> _Row:
        """One row: what is shown first, then as many conversations as fit into ``room`` tokens. The flag says whether
        a conversation sees the images.
        """
        positions = token_positions(len(shown.ids), [(start, grid) for start in shown.starts])
        row = _Row(room, shown, positions)
        for turns, sees in asked:
            spelled = [self._turn(turn, number, sees) for number, turn in enumerate(turns)]
            for turn, first in zip(turns, row.add(turns, spelled, sees), strict=False):
                row.looks += [(first + place, look) for place, look in self._looks(turn)]
        return row

    def show(self, grid: Grid, images: int, box: Toolbox | None = None) -> Shown:
        """The images as a prompt begins with them, behind the tools if there are any."""
        ids = list(self.encode(self._before(box))) if box else []
        starts: list[int] = []
        for number in range(1, images + 1):
            begin = "<|im_start|>user\n" if number == 1 else ""
            name = f"Picture {number}: " if images > 1 else ""  # as chat templates do with add_vision_id
            ids += self.encode(f"{begin}{name}<|vision_start|>")
            starts.append(len(ids))
            ids += [*[self._image] * grid.tokens, *self.encode("<|vision_end|>")]
        return Shown(tuple(ids), tuple(starts))

    def _before(self, box: Toolbox) -> str:
        """The system's turn, as the chat template writes it."""
        system = [Message("system", (box.system,))] if box.system else []
        whole = self._template.render([*system, Message("user", (ImagePlaceholder(),))], box.described)
        return whole[: whole.index("<|im_start|>user\n")]

    def _turn(self, turn: Exchange, number: int, sees: bool) -> tuple[list[int], list[int]]:
        """Ids of a question with all around it, and of its answer with its end."""
        before = self._next[1:] if number else () if sees else self._user  # the end of the answer before is there
        question = [*before, *self.encode(turn.question), *self._between]
        return question, [*self.encode(turn.answer), self._end]

    def _looks(self, exchange: Exchange) -> Iterator[tuple[int, Look]]:
        """Which token of an answer needs which look."""
        for place, (start, end) in enumerate(self.spans(exchange.answer)):
            yield from islice(((place, look) for look in exchange.looks if start < look.end and look.start < end), 1)


@dataclass(frozen=True)
class Shown:
    """What all conversations of a row have before them: its tokens, where the visual tokens of each image begin, and
    how many empty places are left before the first of these, so that they begin at one place in all rows of a batch.
    """

    ids: tuple[int, ...]
    starts: tuple[int, ...]
    gap: int = 0


class _Row:
    """One row of a batch while it is filled."""

    def __init__(self, room: int, shown: Shown, positions: npt.NDArray[np.int64]) -> None:
        length = len(shown.ids) + shown.gap + room
        self.ids = np.zeros(length, np.int64)
        self.groups = np.full(length, PAD)
        self.targets = np.full(length, NO_TARGET)
        self.weights = np.zeros(length, np.float32)
        self.positions = np.zeros((3, length), np.int64)
        self.exchanges: list[tuple[Exchange, int, int]] = []
        self.looks: list[tuple[int, Look]] = []
        self.starts = tuple(start + shown.gap for start in shown.starts)
        self.used = length - room
        there = np.r_[: shown.starts[0], self.starts[0] : self.used]
        self.ids[there] = shown.ids
        self.groups[there] = PREFIX
        self.positions[:, there] = positions
        self._following = int(positions.max()) + 1
        self._conversations = 0

    def add(self, turns: Turns, spelled: list[tuple[list[int], list[int]]], sees: bool) -> list[int]:
        """Put a conversation behind the others if it fits; the positions that predict the first token of each answer,
        none if it does not.
        """
        tokens = [token for question, answer in spelled for token in (*question, *answer)][:-1]
        begin, end = self.used, self.used + len(tokens)
        if end > len(self.ids):
            return []
        self.ids[begin:end] = tokens
        self.groups[begin:end] = self._conversations + (1 if sees else ALONE)
        self.positions[:, begin:end] = (self._following if sees else 0) + np.arange(len(tokens))
        self._conversations += 1
        firsts = []
        for turn, (question, answer) in zip(turns, spelled, strict=True):
            first = self.used + len(question) - 1  # the token before the answer predicts its first
            self.targets[first : first + len(answer)] = answer
            self.weights[first : first + len(answer)] = len(answer) ** -0.5  # long answers must not drown the short
            self.exchanges.append((turn, first, first + len(answer)))
            self.used += len(question) + len(answer)
            firsts.append(first)
        self.used = end
        return firsts


def _looks(rows: Sequence[_Row], grid: Grid) -> Looks:
    """Where the answers of several rows should look."""
    entries = [(number, position, look) for number, row in enumerate(rows) for position, look in row.looks]
    images = len(rows[0].starts)
    targets = [look_target(look, grid, images) for _, _, look in entries]
    return Looks(
        rows=np.array([row for row, _, _ in entries], np.int64),
        positions=np.array([position for _, position, _ in entries], np.int64),
        targets=np.array(targets, np.float32).reshape(-1, 1 + images * grid.tokens),
    )


def make_batch(
    rng: np.random.Generator, packer: Packer, easy: Sequence[EasyImage], images: int, domain: str | None = None
) -> Batch:
    """A batch of ``images`` scenes, of mixed domains unless one is given; ``pair`` shows two in a row, ``tools`` half
    as many images, with tools before them.
    """
    width, height = list(SIZES)[int(rng.choice(len(SIZES), p=list(SIZES.values())))]
    grid = Grid(height // PATCH, width // PATCH, MERGE)
    drawn = _draw_all(rng, packer, easy, images, grid, domain)
    rows = [packer.pack(one.asked, grid, TEXT_TOKENS, one.shown) for one in drawn]
    scenes = [scene for one in drawn for scene in one.scenes]
    return Batch(
        grid=grid,
        rgb=np.stack([np.asarray(scene.image) for scene in scenes]),
        ids=np.stack([row.ids for row in rows]),
        groups=np.stack([row.groups for row in rows]),
        targets=np.stack([row.targets for row in rows]),
        weights=np.stack([row.weights for row in rows]),
        positions=np.stack([row.positions for row in rows], 1),
        starts=rows[0].starts,
        labels=stack_labels([patch_labels(scene, grid) for scene in scenes]),
        looks=_looks(rows, grid),
        exchanges=[row.exchanges for row in rows],
    )


@dataclass(frozen=True)
class _Drawn:
    """One row to be: its scenes, what stands first in it, and what is asked."""

    scenes: list[Scene]
    shown: Shown
    asked: Iterable[tuple[Turns, bool]]


def _draw_all(
    rng: np.random.Generator,
    packer: Packer,
    easy: Sequence[EasyImage],
    images: int,
    grid: Grid,
    domain: str | None,
) -> list[_Drawn]:
    """The rows of a batch, of one kind."""
    size = grid.width * PATCH, grid.height * PATCH
    kind = rng.random() if domain is None else 1.0
    if domain == "tools" or kind < TOOLS_CHANCE:
        return _draw_with_tools(rng, packer, images // 2, grid)
    if domain == "pair" or kind < TOOLS_CHANCE + (1 - TOOLS_CHANCE) * PAIR_CHANCE:
        drawn = [_draw_pair(size, rng) for _ in range(images // 2)]
    else:
        drawn = [_draw(domain or _one_of(DOMAINS, rng), size, rng, easy) for _ in range(images)]
    return [_Drawn(scenes, packer.show(grid, len(scenes)), _with_text(asked, rng)) for scenes, asked in drawn]


def _draw_with_tools(rng: np.random.Generator, packer: Packer, rows: int, grid: Grid) -> list[_Drawn]:
    """Scenes with as many tools each, whose texts are not equally long."""
    tools = 1 + int(rng.choice(len(TOOLS), p=TOOLS))
    drawn = []
    for _ in range(rows):
        scene = draw_scene(_one_of(TOOLS_DOMAINS, rng), (grid.width * PATCH, grid.height * PATCH), rng)
        box = toolbox_for(scene, tools, rng)
        asked = ((turns, True) for turns in islice(conversations(scene, box, rng), MOST_QUESTIONS))
        drawn.append(_Drawn([scene], packer.show(grid, 1, box), asked))
    most = max(len(one.shown.ids) for one in drawn)
    return [replace(one, shown=replace(one.shown, gap=most - len(one.shown.ids))) for one in drawn]


def _one_of(shares: Mapping[str, float], rng: np.random.Generator) -> str:
    return str(rng.choice(list(shares), p=list(shares.values())))


def _draw(
    domain: str, size: tuple[int, int], rng: np.random.Generator, easy: Sequence[EasyImage]
) -> tuple[list[Scene], list[Turns]]:
    if domain == "easy":
        image = easy[int(rng.integers(len(easy)))]
        resample = PILImage.Resampling.NEAREST if rng.random() < 0.3 else PILImage.Resampling.BICUBIC
        scene = Scene("easy", image.image.resize(size, resample))
        chosen = rng.permutation(len(image.exchanges))[:MOST_QUESTIONS]
        return [scene], [(image.exchanges[index],) for index in chosen]
    scene = draw_scene(domain, size, rng)
    plain, tasks = exchanges(scene, rng), inquiries(scene, rng)
    asked: list[Turns] = [(next(plain),) for _ in range(MOST_QUESTIONS)]
    for place in np.flatnonzero(rng.random(MOST_QUESTIONS) < TASKS_SHARE):
        asked[place] = next(tasks)
    if scene.items and rng.random() < LOCATE_CHANCE:  # first, for many boxes are long
        asked.insert(0, locating(scene, rng))
    if rng.random() < TURNS_CHANCE:
        asked.insert(int(rng.integers(3)), tuple(islice(plain, int(rng.integers(2, 5)))))
    return [scene], asked


def _draw_pair(size: tuple[int, int], rng: np.random.Generator) -> tuple[list[Scene], list[Turns]]:
    domain = _one_of(PAIR_DOMAINS, rng)
    scenes = [draw_scene(domain, size, rng) for _ in range(2)]
    return scenes, [(exchange,) for exchange in islice(about_pairs(scenes, rng), MOST_QUESTIONS)]


def _with_text(asked: Sequence[Turns], rng: np.random.Generator) -> Iterator[tuple[Turns, bool]]:
    if rng.random() < SELF_CHANCE:
        language = "en" if rng.random() < 0.5 else "zh"
        questions, answer = SELF[language]
        yield (Exchange("self", language, str(rng.choice(questions)), answer),), False
    if rng.random() < COPY_CHANCE:
        yield (copying(rng),), False
        yield (copying(rng, lines=1),), False
    yield from ((turns, True) for turns in asked)
