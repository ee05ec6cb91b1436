"""The images and questions of easy-VQA, from the package ``easy-vqa`` (MIT)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import easy_vqa
from PIL import Image

from training.qa import QAPair

Split = Literal["train", "test"]


@dataclass(frozen=True)
class EasyVQAImage:
    """An image of easy-VQA with its questions and answers."""

    image: Image.Image
    qa_pairs: tuple[QAPair, ...]


def load_easy_vqa(split: Split) -> list[EasyVQAImage]:
    """All images of a split with their questions."""
    if split == "train":
        questions, answers, indices = easy_vqa.get_train_questions()
        paths = easy_vqa.get_train_image_paths()
    else:
        questions, answers, indices = easy_vqa.get_test_questions()
        paths = easy_vqa.get_test_image_paths()
    asked: dict[int, list[QAPair]] = defaultdict(list)
    for question, answer, index in zip(questions, answers, indices, strict=True):
        asked[index].append(QAPair("easy", "en", question, answer))
    images = []
    for index, qa_pairs in asked.items():
        with Image.open(paths[index]) as image:
            images.append(EasyVQAImage(image.convert("RGB"), tuple(qa_pairs)))
    return images
