"""Digits of edges, which the auxiliary heads predict."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the workbench packages")

import torch

from training.auxiliary import edge_digits


def test_edge_digits_are_those_of_an_answer() -> None:
    """Guards the order: first digits of all edges, then second digits; 1.0 has no two digits and becomes 0.99."""
    box = torch.tensor([[0.0, 0.07, 0.456, 1.0]])
    assert edge_digits(box).tolist() == [[0, 0, 4, 9, 0, 7, 6, 9]]
