"""easy-VQA's images and questions, from the package ``easy-vqa`` (MIT). Knows the package, no tokens."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import easy_vqa
from PIL import Image

from training.questions import Exchange

Split = Literal["train", "test"]


@dataclass(frozen=True)
class EasyImage:
    """An image of easy-VQA with its questions and answers."""

    image: Image.Image
    exchanges: tuple[Exchange, ...]


def load_easy(split: Split) -> list[EasyImage]:
    """All images of a split with their questions."""
    if split == "train":
        questions, answers, indices = easy_vqa.get_train_questions()
        paths = easy_vqa.get_train_image_paths()
    else:
        questions, answers, indices = easy_vqa.get_test_questions()
        paths = easy_vqa.get_test_image_paths()
    asked: dict[int, list[Exchange]] = defaultdict(list)
    for question, answer, index in zip(questions, answers, indices, strict=True):
        asked[index].append(Exchange("easy", "en", question, answer))
    images = []
    for index, exchanges in asked.items():
        with Image.open(paths[index]) as image:
            images.append(EasyImage(image.convert("RGB"), tuple(exchanges)))
    return images
