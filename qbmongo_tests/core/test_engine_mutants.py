"""Each rule of the cache is needed: without it the machine finds an answer that is too old.

A mutant takes one rule out of the running code. (The own-event rule as a whole only saves entries,
so nothing that is missing without it could be found; the share of entries kept shows it.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from qbmongo.core.cache import Cache
from qbmongo.core.ledger import Ledger
from qbmongo.core.trust import Trust

from .machine.explorer import explain, first_violation

# What a mutant may cost; most are found within a tenth of it.
READS = 100_000
SEED = 0
_CALM = ("no elect", "no clear", "no gap")
# Rules that matter in rare circumstances are looked for where those are frequent.
OFTEN: dict[str, tuple[str, ...]] = {
    "age_from_the_sending": ("ttl", "delay"),
    "clear_is_an_effect": ("unknown", "ttl"),
    "events_in_the_sequence": ("delay", *_CALM),
    "generation_of_a_sending": ("cancel", *_CALM),
    "ids_of_a_flight_are_any": ("ttl", "delay", *_CALM),
    "other_namespaces_of_an_aggregation": ("foreign", "ttl"),
    "quarantine_of_unknown_outcomes": ("ttl", "loss"),
    "refusal_of_what_is_older_than_the_log": ("delay", *_CALM),
    "same_primary": (
        *("stale", "elect", "discover", "no watch", "no kill", "wait", "no clear", "no gap"),
    ),
    "second_closing_at_a_commits_retry": ("transactions", "loss", "stall", "quiet"),
    "seen_at_the_sending": ("delay", *_CALM),
    "transaction_open_until_its_outcome": ("transactions", "loss"),
    "trust_at_the_beginning": ("gap", "delay", "no elect", "no clear"),
}

# Where the search begins: just before a run that shows the need of the rule.
# From SEED on it would be found as well, so many runs later.
BEGINS = {
    "clear_is_an_effect": 130,
    "ids_of_a_flight_are_any": 27,
    "quarantine_of_unknown_outcomes": 271,
    "refusal_of_what_is_older_than_the_log": 28,
    "same_primary": 32,
    "second_closing_at_a_commits_retry": 37,
    "seen_at_the_sending": 29,
    "transaction_open_until_its_outcome": 51,
    "trust_at_the_beginning": 68,
}

Mutant = Callable[[], Any]
MUTANTS: dict[str, Mutant] = {}


def _around(owner: type, name: str, replacement: Callable[..., Any]) -> Any:
    """Replaces a method by one that is given the original first."""
    original = getattr(owner, name)

    def method(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    return patch.object(owner, name, method)


def _mutant(function: Callable[[], Any]) -> Callable[[], Any]:
    MUTANTS[function.__name__] = function
    return function


@_mutant
def stamp_check() -> Any:
    """A fill is kept whatever closed after its sending."""

    def refusal(original: Any, cache: Cache, fill: Any, *args: Any) -> Any:
        logs = [(namespace, namespace.log) for namespace in set(fill.namespaces)]
        for namespace, _ in logs:
            namespace.log = deque()
        try:
            return original(cache, fill, *args)
        finally:
            for namespace, log in logs:
                namespace.log = log

    return _around(Cache, "_refusal", refusal)


@_mutant
def join_condition() -> Any:
    """A flight is joined whatever closed after its sending."""
    return _around(Cache, "_touched_since", lambda original, cache, fill: False)


@_mutant
def ids_of_a_flight_are_any() -> Any:
    """A flight counts as containing no document while its answer is not known."""

    def touched(original: Any, cache: Cache, fill: Any) -> bool:
        fill.footprint.ids = frozenset()
        try:
            return bool(original(cache, fill))
        finally:
            fill.footprint.ids = None

    return _around(Cache, "_touched_since", touched)


@_mutant
def lease() -> Any:
    """Once trusted, hits are served for ever."""

    def renewed(original: Any, trust: Trust, primary: Any, until_s: float) -> None:
        original(trust, primary, float("inf"))

    return _around(Trust, "renewed", renewed)


@_mutant
def events_in_the_sequence() -> Any:
    """An event drops entries, and fills under way do not hear of it."""

    def apply(original: Any, cache: Cache, effect: Any, time: int, cause: str) -> None:
        namespace = cache._namespaces.get(effect.namespace) if time else None
        if namespace is None:
            original(cache, effect, time, cause)
            return
        fills, namespace.fills = namespace.fills, 0
        original(cache, effect, time, cause)
        namespace.fills = fills

    return _around(Cache, "_apply", apply)


@_mutant
def transaction_open_until_its_outcome() -> Any:
    """A transaction's effects close with each of its commands."""
    return _around(Ledger, "_keep", lambda original, ledger, turn, effects: False)


@_mutant
def second_closing_at_a_commits_retry() -> Any:
    """A transaction's effects close with the first commit, whatever its outcome."""

    def ended(original: Any, ledger: Ledger, opened: Any, turn: Any, *, definite: bool) -> Any:
        closed = original(ledger, opened, turn, definite=definite)
        ledger._transactions.pop(turn.session, None)
        return closed

    return _around(Ledger, "_ended", ended)


@_mutant
def clear_is_an_effect() -> Any:
    """A clear drops what is kept, and fills under way do not hear of it."""

    def clear(original: Any, cache: Cache, cause: str) -> None:
        cleared = cache._cleared
        original(cache, cause)
        cache._cleared = cleared

    return _around(Cache, "clear", clear)


@_mutant
def trust_at_the_beginning() -> Any:
    """Whoever is trusted when the answer arrives was trusted all the time."""

    def begin(original: Any, cache: Cache, *args: Any, **kwargs: Any) -> Any:
        trusts = [trust for trust in cache.trusts() if not trust.trusted]
        primaries = [trust.primary for trust in trusts]
        for trust in trusts:
            trust.trusted, trust.primary = True, _NOBODY
        try:
            return original(cache, *args, **kwargs)
        finally:
            for trust, primary in zip(trusts, primaries, strict=True):
                trust.trusted, trust.primary = False, primary

    def refusal(original: Any, cache: Cache, fill: Any, *args: Any) -> Any:
        trust = fill.namespaces[0].trust
        fill.epoch, fill.primary = trust.epoch, trust.primary
        return original(cache, fill, *args)

    def wanted(original: Any, cache: Cache, database: str) -> list[str]:
        # Those that the first lease makes unknown, too: nobody has to read them again for it.
        return [n.name for n in cache._namespaces.values() if n.facts is None]

    return _all(
        _around(Cache, "begin", begin),
        _around(Cache, "_refusal", refusal),
        _around(Cache, "wanted_facts", wanted),
    )


class _Nobody:
    address = None


_NOBODY = _Nobody()


@contextmanager
def _all(*patches: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for each in patches:
            stack.enter_context(each)
        yield


@_mutant
def refusal_of_what_is_older_than_the_log() -> Any:
    """Effects that had to be forgotten count as none."""

    def apply(original: Any, cache: Cache, effect: Any, time: int, cause: str) -> None:
        namespace = cache._namespaces.get(effect.namespace)
        forgotten = namespace.forgotten if namespace is not None else 0
        original(cache, effect, time, cause)
        if namespace is not None and effect.kind in ("insert", "update", "delete"):
            namespace.forgotten = forgotten

    return _around(Cache, "_apply", apply)


@_mutant
def same_primary() -> Any:
    """An answer is kept whoever gave it."""

    def settle(original: Any, cache: Cache, fill: Any, *args: Any) -> Any:
        trust = fill.namespaces[0].trust
        if trust.trusted:
            fill.address, fill.primary = trust.primary.address, trust.primary
        return original(cache, fill, *args)

    return _around(Cache, "settle", settle)


@_mutant
def seen_at_the_sending() -> Any:
    """What was seen is taken when the answer arrives."""

    def settle(original: Any, cache: Cache, fill: Any, *args: Any) -> Any:
        trust = fill.namespaces[0].trust
        if trust.trusted:
            fill.seen = cache._seen.get(trust.primary.address, 0)
        return original(cache, fill, *args)

    return _around(Cache, "settle", settle)


@_mutant
def log_while_a_fill_is_compared() -> Any:
    """The last fill to end takes the log of effects with it before it is compared."""

    def refusal(original: Any, cache: Cache, fill: Any, *args: Any) -> Any:
        for namespace in fill.namespaces:
            if namespace.fills == 1:
                namespace.log.clear()
        return original(cache, fill, *args)

    return _around(Cache, "_refusal", refusal)


@_mutant
def generation_of_a_sending() -> Any:
    """A sending that was given up settles for the one that took its place."""

    def settle(original: Any, cache: Cache, fill: Any, generation: int, *args: Any) -> Any:
        return original(cache, fill, fill.generation, *args)

    return _around(Cache, "settle", settle)


@_mutant
def other_namespaces_of_an_aggregation() -> Any:
    """A pipeline's answer is kept as if it came from its own collection alone."""

    def keep(original: Any, cache: Cache, fill: Any, *args: Any) -> None:
        fill.namespaces = fill.namespaces[:1]
        original(cache, fill, *args)

    return _around(Cache, "_keep", keep)


@_mutant
def quarantine_of_unknown_outcomes() -> Any:
    """Without a stream, what a write of unknown outcome may touch is cached at once."""
    return _around(Cache, "_quarantined", lambda original, *args: False)


@_mutant
def age_from_the_sending() -> Any:
    """A time to live counts from the answer's arrival."""

    def settle(original: Any, cache: Cache, fill: Any, *args: Any) -> Any:
        fill.started_s = args[-1]
        return original(cache, fill, *args)

    return _around(Cache, "settle", settle)


@pytest.mark.parametrize("name", MUTANTS)
def test_without_the_rule_a_read_is_too_old(name: str) -> None:
    with MUTANTS[name]():
        found = first_violation(READS, BEGINS.get(name, SEED), OFTEN.get(name, ()))
    assert found is not None, f"{READS} reads show no need of it"
    assert "began at" in str(found), found


def test_a_violation_is_told_step_by_step() -> None:
    with MUTANTS["lease"]():
        seed = next(s for s in range(100) if first_violation(1, s) is not None)
        trace = explain(seed + 1, attempts=100)
    assert "decisions" in trace.splitlines()[0]
    assert "from memory" in trace
    assert "answers of the timeline" in trace


@pytest.mark.parametrize("often", sorted(set(OFTEN.values())), ids=lambda often: " ".join(often))
def test_with_every_rule_the_same_circumstances_show_nothing(often: tuple[str, ...]) -> None:
    found = first_violation(1_500, SEED, often)
    assert found is None, found
