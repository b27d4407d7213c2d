"""Entries in memory: least recently used first out, within a byte budget that clients share.

Everything an entry costs is counted: key, value, index, bookkeeping.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from lru import LRU

__all__ = ["Budget", "Entry", "Store"]

# Measured with tracemalloc over 100,000 entries (bench/bench_memory.py): what an entry costs beside
# the bytes of its value and key, and what each indexed `_id` adds.
ENTRY_BYTES = 480
ID_BYTES = 165


class Budget:
    """Bytes used by all stores that share it.

    A store that grows beyond the budget gives up its own oldest entries; it never touches another
    store, which may belong to another thread or event loop.
    """

    __slots__ = ("_lock", "used_bytes")

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self.used_bytes = 0

    def add(self, count: int) -> int:
        """Adds a number of bytes (may be negative); returns what is then in use."""
        with self._lock:
            self.used_bytes += count
            return self.used_bytes


class Entry:
    """One answer: the BSON documents as the server sent them, and what it takes to drop it in time.

    ids: canonical `_id`s under which it is indexed (contained, or confined to by the filter).
    seen: the highest operation time known when the read was sent (0: none).
    stats: the profile's handle of the shape, or None.
    """

    __slots__ = (
        "data",
        "equality",
        "expires_s",
        "filter",
        "group",
        "ids",
        "key",
        "seen",
        "size",
        "stats",
        "stored_s",
    )

    def __init__(
        self,
        key: Hashable,
        data: bytes,
        group: Any,
        ids: tuple[Any, ...],
        equality: Any,
        filter: bytes | None,
        stored_s: float,
        expires_s: float,
        seen: int,
        stats: Any,
        key_bytes: int,
    ) -> None:
        self.key = key
        self.data = data
        self.group = group
        self.ids = ids
        self.equality = equality
        self.filter = filter
        self.stored_s = stored_s
        self.expires_s = expires_s
        self.seen = seen
        self.stats = stats
        extra = 0 if filter is None else len(filter)
        self.size = len(data) + key_bytes + extra + ENTRY_BYTES + ID_BYTES * len(ids)


class Store:
    """The entries of one client, by key, in order of use.

    `forget` is called with each entry that leaves, for whatever cause, so that indexes follow.
    """

    __slots__ = (
        "_budget",
        "_entries",
        "_forget",
        "_max_bytes",
        "_uncounted",
        "bytes",
        "evictions",
        "get",
    )

    def __init__(self, max_bytes: int, budget: Budget, forget: Callable[[Entry], None]) -> None:
        # The count never limits: an entry costs at least ENTRY_BYTES, so bytes run out first.
        self._entries: Any = LRU(max(1, max_bytes // ENTRY_BYTES + 1))
        self._max_bytes = max_bytes
        self._budget = budget
        self._forget = forget
        self.bytes = self._uncounted = 0
        self.evictions = 0
        self.get: Callable[[Hashable], Entry | None] = self._entries.get

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: Entry) -> bool:
        """Keeps an entry, giving up older ones for it. False if it does not fit at all."""
        self.count()
        if entry.size > self._max_bytes:
            return False
        old = self._entries.get(entry.key)
        if old is not None:
            self.remove(old)
        self._entries[entry.key] = entry
        self.bytes += entry.size
        used = self._budget.add(entry.size)
        while used > self._max_bytes:
            oldest = self._entries.peek_last_item()[1]
            self.evictions += 1
            used = self._remove(oldest)
            if oldest is entry:
                return False
        return True

    @property
    def room(self) -> int:
        """Bytes that can be kept before something has to be given up."""
        return self._max_bytes - self._budget.used_bytes - self._uncounted

    def put_new(self, entry: Entry) -> None:
        """Keeps an entry of a key that is not there, for which there is room. `count` follows."""
        self._entries[entry.key] = entry
        self.bytes += entry.size
        self._uncounted += entry.size

    def count(self) -> None:
        """Counts what `put_new` was given; gives up what other stores have left no room for."""
        size, self._uncounted = self._uncounted, 0
        if size:
            used = self._budget.add(size)
            while used > self._max_bytes and self._entries:
                self.evictions += 1
                used = self._remove(self._entries.peek_last_item()[1])

    def remove(self, entry: Entry) -> None:
        """Drops an entry if it is still the one under its key."""
        if self._entries.get(entry.key) is entry:
            self._remove(entry)

    def _remove(self, entry: Entry) -> int:
        del self._entries[entry.key]
        self.bytes -= entry.size
        self._forget(entry)
        return self._budget.add(-entry.size)

    def clear(self) -> int:
        """Drops everything; returns how many entries there were. `forget` is not called."""
        count = len(self._entries)
        self._entries.clear()
        self._budget.add(self._uncounted - self.bytes)
        self.bytes = self._uncounted = 0
        return count

    def entries(self) -> list[Entry]:
        return list(self._entries.values())
