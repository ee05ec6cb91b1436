"""Tables and targets of an evaluation."""

from __future__ import annotations

from training.model_card import CLIPS_GOAL, GOALS, ScoredAnswer, markdown, tables, targets


def test_tables_show_shares_and_targets_show_whether_they_are_met() -> None:
    scored = [
        ScoredAnswer("count_kind", "en", "2", 1),
        ScoredAnswer("count_kind", "zh", "2", 0),
        ScoredAnswer("count_kind", "en", "0", 1),
    ]
    table = tables(scored)
    assert table["tasks"]["count_kind"]["both"] == {"score": 0.6667, "n": 3}
    nine = tables([*scored, ScoredAnswer("count_kind", "en", "9", 0)])["tasks"]["count_kind"]
    assert (nine["both"]["n"], nine["goal"]["n"]) == (4, 3)
    assert table["count_kind_by_truth"] == {"0": {"score": 1.0, "n": 1}, "2": {"score": 0.5, "n": 2}}
    verdict = targets({"fp32": table, "int8": table}, kl=0.001, agreement=0.9)
    assert not verdict["count_kind"]["met"]
    assert verdict["count_kind"]["goal"] == GOALS["count_kind"]
    assert verdict["int8_loss"]["met"]
    assert "clips" not in verdict
    assert verdict["int8_kl"]["met"]
    assert not verdict["int8_agreement"]["met"]
    clips = [ScoredAnswer("clip_turn", "en", "2.2 seconds", 1), *[ScoredAnswer("clip_moves", "zh", "球", 0)] * 3]
    with_clips = tables([*scored, *clips])
    found = targets({"fp32": with_clips, "int8": with_clips}, 0, 1)["clips"]
    assert found == {"goal": CLIPS_GOAL, "measured": 0.25, "met": False}
    text = markdown({"precisions": {"fp32": table, "int8": table}, "targets": verdict})
    assert "| how many of a kind | 3 | 100.0 % | 0.0 % | 100.0 % | 0.0 % |" in text
