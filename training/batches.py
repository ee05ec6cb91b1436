"""Training batches: images of one size, several questions packed behind each, and labels for every patch.

All questions about an image, or a pair of images, share its visual tokens: a tree mask lets each question see the
images and itself only, and its positions start right after them. A question may be a conversation of several turns.
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

from training.copy_questions import copy_question
from training.easy_vqa import EasyVQAImage
from training.labels import PatchLabels, attention_weights, patch_labels, stack_labels
from training.network import MERGE, PATCH
from training.pair_questions import PAIR_DOMAINS, pair_questions
from training.qa import AttentionTarget, QAPair, Turns
from training.scene_questions import qa_pairs
from training.scenes import Scene, draw_scene
from training.task_questions import locate_question, task_questions
from training.templates import SELF
from training.tool_definitions import Toolset
from training.tool_questions import draw_toolset_for, tool_conversations
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

DOMAINS = {"shelf": 0.46, "shapes": 0.11, "easy": 0.11, "tag": 0.13, "sign": 0.19}
TEXT_TOKENS = 232
"""Capacity for questions and answers behind each image."""
MAX_QUESTIONS = 12
TASKS_SHARE = 0.35
LOCATE_CHANCE, TURNS_CHANCE = 0.4, 0.3
"""Probability that a question is one of a task, that a row begins with boxes, and that it has a conversation."""
PAIR_CHANCE = 0.16
"""Share of batches with pairs of images."""
TOOLS_CHANCE = 0.5
"""Share of batches with tools before the image; they have half as many images, because their rows are long."""
TOOLS_DOMAINS = {"shelf": 0.5, "shapes": 0.1, "tag": 0.2, "sign": 0.2}
TOOLS = (0.75, 0.2, 0.05)
"""Probability of one, two and three tools."""
SELF_CHANCE = 0.04
COPY_CHANCE = 0.3
"""Probability that a row asks who the model is, or for a copy of a page, without the image."""

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
    """A batch of B rows with P images each.

    Attributes:
        grid: Patches of every image.
        rgb: ``[B * P, H, W, 3]`` uint8.
        ids: Token ids ``[B, T]``.
        groups: Group of each token in the tree mask ``[B, T]``.
        targets: Next token ``[B, T]``; ``NO_TARGET`` has no loss.
        weights: Weight of each target's loss ``[B, T]``.
        positions: M-RoPE positions ``[3, B, T]``.
        starts: Index of each image's first visual token ``[P]``.
        labels: Patch labels of all images.
        attention: Attention targets of the answers.
        qa_pairs: For each row its questions, each with the span of its answer's targets.
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


class Packer:
    """Packs tokenized questions behind images."""

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
        """Token ids of a text; control tokens are recognized."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    @lru_cache(maxsize=50_000)  # noqa: B019
    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        """Character span of each token of a text."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).offsets)

    def pack(self, asked: Iterable[tuple[Turns, bool]], grid: Grid, capacity: int, prefix: PromptPrefix) -> _Row:
        """Build a row: the prefix, then as many conversations as fit into ``capacity`` tokens.

        The flag of each conversation says whether it attends to the images.
        """
        positions = token_positions(len(prefix.ids), [(start, grid) for start in prefix.starts])
        row = _Row(capacity, prefix, positions)
        for turns, sees_images in asked:
            token_ids = [self._turn(turn, number, sees_images) for number, turn in enumerate(turns)]
            for turn, first in zip(turns, row.add(turns, token_ids, sees_images), strict=False):
                row.attention += [(first + place, target) for place, target in self._attention(turn)]
        return row

    def build_prefix(self, grid: Grid, images: int, toolset: Toolset | None = None) -> PromptPrefix:
        """Build the beginning of a prompt: the tools, if any, then the images."""
        ids = list(self.encode(self._system_turn(toolset))) if toolset else []
        starts: list[int] = []
        for number in range(1, images + 1):
            begin = "<|im_start|>user\n" if number == 1 else ""
            name = f"Picture {number}: " if images > 1 else ""  # as chat templates do with add_vision_id
            ids += self.encode(f"{begin}{name}<|vision_start|>")
            starts.append(len(ids))
            ids += [*[self._image] * grid.tokens, *self.encode("<|vision_end|>")]
        return PromptPrefix(tuple(ids), tuple(starts))

    def _system_turn(self, toolset: Toolset) -> str:
        """The system turn with the tools, as the chat template renders it."""
        system = [Message("system", (toolset.system,))] if toolset.system else []
        whole = self._template.render([*system, Message("user", (ImagePlaceholder(),))], toolset.definitions)
        return whole[: whole.index("<|im_start|>user\n")]

    def _turn(self, turn: QAPair, number: int, sees_images: bool) -> tuple[list[int], list[int]]:
        """Ids of a question with its chat markup, and of its answer with the end token."""
        # The end token of the previous answer is there already.
        before = self._next[1:] if number else () if sees_images else self._user
        question = [*before, *self.encode(turn.question), *self._between]
        return question, [*self.encode(turn.answer), self._end]

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
    image, so that images start at the same index in all rows of a batch.
    """

    ids: tuple[int, ...]
    starts: tuple[int, ...]
    padding: int = 0


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
    rng: np.random.Generator, packer: Packer, easy: Sequence[EasyVQAImage], images: int, domain: str | None = None
) -> Batch:
    """Draw a batch of ``images`` scenes, of mixed domains unless one is given.

    The domain ``pair`` has two images in each row; ``tools`` has half as many images, with tools before them.
    """
    width, height = list(SIZES)[int(rng.choice(len(SIZES), p=list(SIZES.values())))]
    grid = Grid(height // PATCH, width // PATCH, MERGE)
    drawn = _draw_all(rng, packer, easy, images, grid, domain)
    rows = [packer.pack(one.asked, grid, TEXT_TOKENS, one.prefix) for one in drawn]
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
        attention=_attention(rows, grid),
        qa_pairs=[row.qa_pairs for row in rows],
    )


@dataclass(frozen=True)
class _RowSource:
    """What a row is made of: its scenes, its prefix and its conversations."""

    scenes: list[Scene]
    prefix: PromptPrefix
    asked: Iterable[tuple[Turns, bool]]


def _draw_all(
    rng: np.random.Generator,
    packer: Packer,
    easy: Sequence[EasyVQAImage],
    images: int,
    grid: Grid,
    domain: str | None,
) -> list[_RowSource]:
    """Draw the contents of all rows, which are of one kind."""
    size = grid.width * PATCH, grid.height * PATCH
    kind = rng.random() if domain is None else 1.0
    if domain == "tools" or kind < TOOLS_CHANCE:
        return _draw_with_tools(rng, packer, images // 2, grid)
    if domain == "pair" or kind < TOOLS_CHANCE + (1 - TOOLS_CHANCE) * PAIR_CHANCE:
        drawn = [_draw_pair(size, rng) for _ in range(images // 2)]
    else:
        drawn = [_draw(domain or _one_of(DOMAINS, rng), size, rng, easy) for _ in range(images)]
    return [
        _RowSource(scenes, packer.build_prefix(grid, len(scenes)), _with_text(asked, rng)) for scenes, asked in drawn
    ]


def _draw_with_tools(rng: np.random.Generator, packer: Packer, rows: int, grid: Grid) -> list[_RowSource]:
    """Draw scenes with the same number of tools each; their prefixes are padded to one length."""
    tools = 1 + int(rng.choice(len(TOOLS), p=TOOLS))
    drawn = []
    for _ in range(rows):
        scene = draw_scene(_one_of(TOOLS_DOMAINS, rng), (grid.width * PATCH, grid.height * PATCH), rng)
        toolset = draw_toolset_for(scene, tools, rng)
        asked = ((turns, True) for turns in islice(tool_conversations(scene, toolset, rng), MAX_QUESTIONS))
        drawn.append(_RowSource([scene], packer.build_prefix(grid, 1, toolset), asked))
    most = max(len(one.prefix.ids) for one in drawn)
    return [replace(one, prefix=replace(one.prefix, padding=most - len(one.prefix.ids))) for one in drawn]


def _one_of(shares: Mapping[str, float], rng: np.random.Generator) -> str:
    return str(rng.choice(list(shares), p=list(shares.values())))


def _draw(
    domain: str, size: tuple[int, int], rng: np.random.Generator, easy: Sequence[EasyVQAImage]
) -> tuple[list[Scene], list[Turns]]:
    if domain == "easy":
        image = easy[int(rng.integers(len(easy)))]
        resample = PILImage.Resampling.NEAREST if rng.random() < 0.3 else PILImage.Resampling.BICUBIC
        scene = Scene("easy", image.image.resize(size, resample))
        chosen = rng.permutation(len(image.qa_pairs))[:MAX_QUESTIONS]
        return [scene], [(image.qa_pairs[index],) for index in chosen]
    scene = draw_scene(domain, size, rng)
    plain, tasks = qa_pairs(scene, rng), task_questions(scene, rng)
    asked: list[Turns] = [(next(plain),) for _ in range(MAX_QUESTIONS)]
    for place in np.flatnonzero(rng.random(MAX_QUESTIONS) < TASKS_SHARE):
        asked[place] = next(tasks)
    if scene.items and rng.random() < LOCATE_CHANCE:  # first, because lists of boxes are long
        asked.insert(0, locate_question(scene, rng))
    if rng.random() < TURNS_CHANCE:
        asked.insert(int(rng.integers(3)), tuple(islice(plain, int(rng.integers(2, 5)))))
    return [scene], asked


def _draw_pair(size: tuple[int, int], rng: np.random.Generator) -> tuple[list[Scene], list[Turns]]:
    domain = _one_of(PAIR_DOMAINS, rng)
    scenes = [draw_scene(domain, size, rng) for _ in range(2)]
    return scenes, [(qa,) for qa in islice(pair_questions(scenes, rng), MAX_QUESTIONS)]


def _with_text(asked: Sequence[Turns], rng: np.random.Generator) -> Iterator[tuple[Turns, bool]]:
    if rng.random() < SELF_CHANCE:
        language = "en" if rng.random() < 0.5 else "zh"
        questions, answer = SELF[language]
        yield (QAPair("self", language, str(rng.choice(questions)), answer),), False
    if rng.random() < COPY_CHANCE:
        yield (copy_question(rng),), False
        yield (copy_question(rng, lines=1),), False
    yield from ((turns, True) for turns in asked)
