"""Matching of boxes against brute force; word errors against the definition of the edit distance."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenure.stats import boxes, words
from tenure.types import Box

corner = st.integers(0, 6)
side = st.integers(0, 4)
box = st.builds(
    lambda x, y, w, h, c: Box(x, y, x + w, y + h, c), corner, corner, side, side, st.sampled_from("pq")
)
few = st.lists(box, max_size=4)
text = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=7).map(" ".join)


def pixels(x: Box) -> set[tuple[int, int]]:
    return {(i, j) for i in range(int(x.x1), int(x.x2)) for j in range(int(x.y1), int(x.y2))}


def overlap(x: Box, y: Box) -> float:
    union = pixels(x) | pixels(y)
    return len(pixels(x) & pixels(y)) / len(union) if union else 0.0


def brute(a: list[Box], b: list[Box], iou: float, labels: bool) -> tuple[int, float]:
    """The best (number of pairs, sum of overlaps) over all one-to-one assignments."""
    if len(a) > len(b):
        a, b = b, a
    best = (0, 0.0)
    for order in itertools.permutations(range(len(b)), len(a)):
        fits = [overlap(x, b[j]) for x, j in zip(a, order, strict=True) if not labels or x.label == b[j].label]
        fits = [f for f in fits if f >= iou]
        best = max(best, (len(fits), round(sum(fits), 9)))
    return best


@settings(max_examples=150, deadline=None)
@given(few, few, st.sampled_from([0.1, 0.3, 0.5, 1.0]), st.booleans())
def test_matching_is_the_best_one_to_one(a, b, iou, labels):
    found = boxes.match(a, b, iou=iou, labels=labels)
    pairs, total = brute(a, b, iou, labels)
    assert len(found.pairs) == pairs
    assert sum(p.iou for p in found.pairs) == pytest.approx(total, abs=1e-6)
    assert sorted([p.a for p in found.pairs] + list(found.only_a)) == list(range(len(a)))
    assert sorted([p.b for p in found.pairs] + list(found.only_b)) == list(range(len(b)))
    assert all(p.iou >= iou and p.same_label is (a[p.a].label == b[p.b].label) for p in found.pairs)


@settings(max_examples=100, deadline=None)
@given(few, few, st.booleans())
def test_swapping_the_sides_changes_nothing_that_counts(a, b, labels):
    there, back = boxes.match(a, b, labels=labels), boxes.match(b, a, labels=labels)
    assert len(there.pairs) == len(back.pairs)
    assert sum(p.iou for p in there.pairs) == pytest.approx(sum(p.iou for p in back.pairs))
    assert boxes.match(a, b, labels=labels) == there


@given(few)
def test_boxes_match_themselves(a):
    a = [x for x in a if pixels(x)]
    assert boxes.match(a, a).equal


def test_a_chain_of_boxes_gets_all_pairs_and_not_the_greedy_ones():
    a = [Box(0, 0, 10, 10, "x"), Box(3, 0, 13, 10, "x")]
    b = [Box(3, 0, 13, 10, "x"), Box(6, 0, 16, 10, "x")]  # greedy takes (1, 0) and strands both others
    assert [(p.a, p.b) for p in boxes.match(a, b).pairs] == [(0, 0), (1, 1)]


def test_labels_decide_or_are_reported():
    a, b = [Box(0, 0, 4, 4, "pit")], [Box(0, 0, 4, 4, "crack")]
    assert boxes.match(a, b) == boxes.Matching((), (0,), (0,))
    assert boxes.match(a, b, labels=False) == boxes.Matching((boxes.Pair(0, 0, 1.0, False),), (), ())
    with pytest.raises(ValueError, match="iou"):
        boxes.match(a, b, iou=0.0)


def distance(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    @cache
    def far(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        swap = far(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(swap, far(i - 1, j) + 1, far(i, j - 1) + 1)

    return far(len(a), len(b))


@settings(max_examples=200, deadline=None)
@given(text, text)
def test_word_errors_are_the_edit_distance_both_ways(reference, said):
    found, back = words.errors(reference, said), words.errors(said, reference)
    assert found.count == back.count == distance(tuple(reference.split()), tuple(said.split()))
    assert found.words == len(reference.split())
    assert found.words - found.deleted + found.inserted == len(said.split())
    assert 0.0 <= found.share <= 1.0


@settings(max_examples=200, deadline=None)
@given(text, text)
def test_an_alignment_spells_both_texts(reference, said):
    steps = words.align(reference, said)
    assert " ".join(s.reference for s in steps if s.reference is not None) == reference
    assert " ".join(s.said for s in steps if s.said is not None) == said
    assert all((s.change == "same") is (s.reference == s.said) for s in steps)


@settings(max_examples=100, deadline=None)
@given(text, text, text)
def test_word_errors_obey_the_triangle(a, b, c):
    assert words.errors(a, c).count <= words.errors(a, b).count + words.errors(b, c).count


def test_case_and_punctuation_count_only_when_asked():
    assert words.errors("Don\u2019t stop, now!", "don't STOP now").count == 0
    assert words.errors("Stop, now", "stop now", case=True).substituted == 1
    assert words.errors("Stop, now", "stop now", punctuation=True).substituted == 1
    assert words.normalised("a - b -c x-ray 'quoted'") == ["a", "b", "c", "x-ray", "quoted"]


def test_without_reference_words_there_is_no_rate():
    assert words.errors("", "one two") == words.WordErrors(0, 0, 2, 0)
    assert words.errors("", "one two").rate is None
    assert words.errors("", "one two").share == 1.0
    assert words.errors("", "").share == 0.0
