"""core/pace.py: which shapes go alone because they hold up others, and when that ends."""

from __future__ import annotations

import math

from qbmongo.core.pace import Pace, Paces

PATIENCE_S = 0.05


def usual(batch_s: float = 0.01) -> Paces:
    paces = Paces()
    paces.batch(batch_s, (), PATIENCE_S, 10)
    return paces


def test_a_batch_that_takes_far_longer_has_each_of_its_shapes_looked_at() -> None:
    quick, slow, absent = Pace(), Pace(), Pace()
    paces = usual()
    paces.batch(0.06, (quick, slow), PATIENCE_S, 10)
    assert not quick.wanted
    paces.batch(0.5, (quick, slow), PATIENCE_S, 10)
    assert (quick.wanted, slow.wanted, absent.wanted) == (True, True, False)


def test_a_large_batch_may_take_longer() -> None:
    pace = Pace()
    usual().batch(0.5, (pace,), PATIENCE_S, 1000)
    assert not pace.wanted


def test_what_is_slow_depends_on_batches_of_the_same_time_and_on_the_way() -> None:
    assert Paces().limit_s(PATIENCE_S) == math.inf
    assert usual(0.4).limit_s(PATIENCE_S) > 0.8
    far = usual()
    far.way_s = 0.3
    assert far.limit_s(PATIENCE_S) == PATIENCE_S + 0.3


def test_three_slow_looks_make_a_shape_slow_for_a_while() -> None:
    pace = Pace()
    for strike in range(3):
        assert not pace.is_slow(strike)
        pace.looked_at(0.5, 0.1, strike)
    assert pace.is_slow(2.0)
    assert pace.is_slow(11.9)
    assert not pace.is_slow(12.1)
    assert pace.wanted, "then it is looked at again"


def test_a_quick_look_in_between_begins_anew() -> None:
    pace = Pace()
    for took_s in (0.5, 0.5, 0.01, 0.5, 0.5):
        pace.looked_at(took_s, 0.1, 0.0)
    assert not pace.is_slow(0.0)


def test_a_shape_that_became_quick_again_travels_with_others_for_good() -> None:
    pace = Pace()
    for _ in range(3):
        pace.looked_at(0.5, 0.1, 0.0)
    pace.wanted = False
    pace.looked_at(0.01, 0.1, 10.5)
    assert not pace.is_slow(10.5)
    assert not pace.wanted
