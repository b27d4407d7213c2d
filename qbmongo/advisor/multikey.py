"""Which paths go through arrays, and what that forbids.

Source: MongoDB manual, "Multikey Indexes" and "Multikey Index Bounds".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .records import CollectionInfo, CollectionStatistics

__all__ = ["Arrays"]


class Arrays:
    """The arrays of one collection, from a sample and from what the server said of its indexes.

    known: whether anything is known; without, no path is taken for an array.
    """

    def __init__(self, info: CollectionInfo, statistics: CollectionStatistics | None) -> None:
        found: set[str] = set()
        self.known = False
        if statistics is not None and statistics.sampled:
            self.known = True
            found |= statistics.array_paths
            found |= {
                path
                for path, field in statistics.fields.items()
                if field.array > 0 and self._outermost(path, statistics.array_paths) is None
            }
        for index in info.indexes:
            found |= index.multikey_paths or frozenset()
        self._paths = frozenset(found)
        self._roots: dict[str, str | None] = {}

    @staticmethod
    def _outermost(path: str, arrays: Iterable[str]) -> str | None:
        above = [a for a in arrays if path == a or path.startswith(f"{a}.")]
        return min(above, key=len) if above else None

    def root(self, path: str) -> str | None:
        """The outermost array that a path goes through or ends in; None: it meets no array."""
        if not self._paths:
            return None
        if path not in self._roots:
            self._roots[path] = self._outermost(path, self._paths)
        return self._roots[path]

    def none(self, paths: Iterable[str]) -> bool:
        return all(self.root(path) is None for path in paths)

    def parallel(self, paths: Sequence[str]) -> bool:
        """Whether an index on these paths would be refused: two arrays side by side in a document.

        Arrays within one another ("items", "items.tags") are not parallel, unless two different
        ones lie in the same ("items.tags", "items.sizes").
        """
        innermost = {a for path in paths for a in self._chain(path)[-1:]}
        ordered = sorted(innermost)
        return any(
            not (a.startswith(f"{b}.") or b.startswith(f"{a}."))
            for i, a in enumerate(ordered)
            for b in ordered[i + 1 :]
        )

    def _chain(self, path: str) -> list[str]:
        return sorted((a for a in self._paths if path == a or path.startswith(f"{a}.")), key=len)
