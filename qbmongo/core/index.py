"""Which cached answers of a namespace a write may change, without looking at all of them.

Entries are indexed by the `_id`s they contain (or are confined to) and grouped by what they depend
on. A question about a write is asked once per group and remembered, so that an invalidation by
`_id` costs one lookup plus what is dropped, however much is cached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..records import Effect, Footprint
from .footprints import may_affect
from .match import matches
from .store import Entry
from .values import canonical

__all__ = ["Group", "NamespaceIndex"]

_MEMO = 512
_GROUPS = 256
_MISSING = object()


def _put(held: dict[Any, Entry | set[Entry]], key: Any, entry: Entry) -> None:
    """Adds an entry under a key; one that is alone there needs no set."""
    others = held.get(key)
    if others is None:
        held[key] = entry
    elif isinstance(others, set):
        others.add(entry)
    elif others is not entry:
        held[key] = {others, entry}


def _take(held: dict[Any, Entry | set[Entry]], key: Any, entry: Entry) -> None:
    """Removes an entry from under a key."""
    others = held.get(key)
    if others is entry:
        del held[key]
    elif isinstance(others, set):
        others.discard(entry)
        if not others:
            del held[key]


class Group:
    """Entries that depend on the same things: paths, window, whether their `_id`s are known.

    inside: the footprint of a member that contains the `_id` touched.
    outside: the footprint of a member that does not; None if the members are confined to `_id`s,
        so that nothing outside can ever touch them.
    """

    __slots__ = ("by_equality", "inside", "inside_memo", "key", "members", "outside", "path")

    def __init__(self, key: Any, footprint: Footprint, *, ids_known: bool) -> None:
        self.key = key
        self.inside = replace(footprint, filter=None, ids=None, bound_ids=None)
        self.outside = (
            None
            if footprint.bound_ids is not None
            else replace(footprint, filter=None, ids=frozenset() if ids_known else None)
        )
        self.path = footprint.equality[0] if footprint.equality is not None else None
        self.members: set[Entry] = set()
        self.by_equality: dict[Any, Entry | set[Entry]] = {}
        self.inside_memo: dict[Any, bool] = {}

    def add(self, entry: Entry) -> None:
        self.members.add(entry)
        if entry.equality is not None:
            _put(self.by_equality, entry.equality, entry)

    def discard(self, entry: Entry) -> None:
        self.members.discard(entry)
        if entry.equality is not None:
            _take(self.by_equality, entry.equality, entry)

    def that_may_match(self, document: Mapping[str, Any]) -> Iterable[Entry]:
        """Members whose equality the document may meet; all where that cannot be told quickly."""
        path = self.path
        if path is None or "." in path:
            return self.members
        value = document.get(path, None)
        if isinstance(value, (list, tuple, Mapping)):
            return self.members
        try:
            held = self.by_equality.get(canonical(value), ())
            return held if not isinstance(held, Entry) else (held,)
        except TypeError:
            return self.members


class NamespaceIndex:
    """The entries of one namespace."""

    __slots__ = ("_by_id", "_filter_of", "_groups", "_limit", "_outside_memo")

    def __init__(self, filter_of: Callable[[Entry], Mapping[str, Any] | None]) -> None:
        self._by_id: dict[Any, Entry | set[Entry]] = {}
        self._groups: dict[Any, Group] = {}
        self._outside_memo: dict[Any, list[Group]] = {}
        self._limit = _GROUPS
        self._filter_of = filter_of

    def __len__(self) -> int:
        return sum(len(group.members) for group in self._groups.values())

    def entries(self) -> Iterator[Entry]:
        for group in self._groups.values():
            yield from group.members

    def group_for(self, footprint: Footprint, *, ids_known: bool) -> Group:
        """The group of entries with this footprint; made if there is none."""
        key = (
            footprint.filter_paths,
            footprint.sort_paths,
            footprint.projected_paths,
            footprint.foreign,
            footprint.window,
            footprint.simple,
            footprint.bound_ids is not None,
            ids_known,
            footprint.equality[0] if footprint.equality is not None else None,
        )
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= self._limit:
                self._groups = {k: g for k, g in self._groups.items() if g.members}
                self._limit = max(_GROUPS, 2 * len(self._groups))
            group = self._groups[key] = Group(key, footprint, ids_known=ids_known)
            self._outside_memo.clear()
        return group

    def has_group(self, group: Group | None) -> bool:
        """Whether entries may be added to a group: it is still one of those that are asked."""
        return group is not None and self._groups.get(group.key) is group

    def add(self, entry: Entry) -> None:
        entry.group.add(entry)
        for identity in entry.ids:
            _put(self._by_id, identity, entry)

    def add_point(self, entry: Entry, identity: Any) -> None:
        """`add`, for an entry without an equality under one `_id`."""
        entry.group.members.add(entry)
        by_id = self._by_id
        others = by_id.get(identity)
        if others is None:
            by_id[identity] = entry
        else:
            _put(by_id, identity, entry)

    def discard(self, entry: Entry) -> None:
        # An empty group stays: what was dropped is often read again.
        entry.group.discard(entry)
        for identity in entry.ids:
            _take(self._by_id, identity, entry)

    def affected(self, effect: Effect) -> set[Entry]:
        """Every entry whose answer the effect may have changed."""
        affected: set[Entry] = set()
        if not self._groups:
            return affected
        question = (effect.kind, effect.paths)
        if effect.ids is None:
            for group in self._groups.values():
                if self._inside(group, effect, question):
                    affected.update(self._matching(group, effect))
            return affected
        for identity in effect.ids:
            held = self._by_id.get(identity)
            if held is None:
                continue
            for entry in held if isinstance(held, set) else (held,):
                if self._inside(entry.group, effect, question):
                    affected.add(entry)
        for group in self._outside(effect, question):
            affected.update(self._matching(group, effect))
        return affected

    def _inside(self, group: Group, effect: Effect, question: Any) -> bool:
        answer = group.inside_memo.get(question)
        if answer is None:
            if len(group.inside_memo) >= _MEMO:
                group.inside_memo.clear()
            # Without documents: the answer must hold for every document of this kind of effect.
            general = replace(effect, ids=None, documents=None)
            answer = group.inside_memo[question] = may_affect(general, group.inside)
        return answer

    def _outside(self, effect: Effect, question: Any) -> list[Group]:
        groups = self._outside_memo.get(question)
        if groups is None:
            if len(self._outside_memo) >= _MEMO:
                self._outside_memo.clear()
            # An `_id` that no member contains stands for whichever the effect has.
            general = replace(effect, ids=frozenset((_MISSING,)), documents=None)
            groups = [
                group
                for group in self._groups.values()
                if group.outside is not None and may_affect(general, group.outside)
            ]
            self._outside_memo[question] = groups
        return groups

    def _matching(self, group: Group, effect: Effect) -> Iterable[Entry]:
        """Members of an affected group; for inserts only those a new document may match."""
        if effect.kind != "insert" or effect.documents is None:
            return group.members
        if group.outside is None and effect.ids is not None:
            return ()
        simple = group.inside.simple
        found = []
        for document in effect.documents:
            for entry in group.that_may_match(document):
                filter = self._filter_of(entry)
                if filter is None or matches(filter, document, simple=simple) is not False:
                    found.append(entry)
        return found
