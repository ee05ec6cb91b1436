"""Digits of box edges, which the auxiliary heads predict."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the workbench packages")

import torch

from training.auxiliary import edge_digits


def test_edge_digits_are_the_digits_of_an_answer() -> None:
    """The first digits of all edges, then the second digits; 1.0 becomes 0.99."""
    box = torch.tensor([[0.0, 0.07, 0.456, 1.0]])
    assert edge_digits(box).tolist() == [[0, 0, 4, 9, 0, 7, 6, 9]]
