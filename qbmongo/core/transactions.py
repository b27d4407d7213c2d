"""Which collections have uncommitted writes of this process's transactions.

A write that conflicts with an open transaction waits for it on the server. In a batch it would make
all the others wait, and a program that commits only after one of these would wait for ever. So
while a transaction that wrote to a namespace is open, other writes there go alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from ..records import Effect

__all__ = ["OpenTransactions"]

# A transaction that said nothing for so long has ended on the server, or has been forgotten by its
# program. Source: https://www.mongodb.com/docs/manual/core/transactions-production-consideration/
# (transactionLifetimeLimitSeconds, one minute unless it was changed)
_LONGEST_SILENCE_S = 300.0
_MAX_OPEN = 1000
_ENDS = frozenset({"abortTransaction", "commitTransaction"})


class _Transaction:
    __slots__ = ("everything", "heard_s", "names", "number")

    def __init__(self, number: int, now_s: float) -> None:
        self.number = number
        self.heard_s = now_s
        self.names: set[str] = set()
        self.everything = False


class OpenTransactions:
    """Transactions that wrote and have no definite end yet, by session."""

    __slots__ = ("_ending", "_open")

    def __init__(self) -> None:
        self._open: dict[bytes, _Transaction] = {}
        self._ending: dict[Hashable, tuple[str, bytes]] = {}

    def wrote_to(self, namespace: str, now_s: float) -> bool:
        """Whether an open transaction wrote to a namespace."""
        if not self._open:
            return False
        for session, transaction in list(self._open.items()):
            if now_s - transaction.heard_s > _LONGEST_SILENCE_S:
                self._open.pop(session, None)
            elif transaction.everything or namespace in transaction.names:
                return True
        return False

    def started(
        self,
        key: Hashable,
        command_name: str,
        command: Mapping[str, Any],
        effects: Iterable[Effect],
        now_s: float,
    ) -> None:
        """A command of a transaction is about to be sent.

        key: identifies this sending until its outcome is told. effects: of the command.
        """
        session = bytes(command["lsid"]["id"])
        number = int(command["txnNumber"])
        known = self._open.get(session)
        if known is not None and known.number != number:
            del self._open[session]
            known = None
        if command_name in _ENDS:
            if known is not None:
                self._ending[key] = (command_name, session)
            return
        for effect in effects:
            if known is None:
                if len(self._open) >= _MAX_OPEN:
                    del self._open[next(iter(self._open))]
                known = self._open[session] = _Transaction(number, now_s)
            if effect.kind in ("database", "everything"):
                known.everything = True
            else:
                known.names.add(effect.namespace)
        if known is not None:
            known.heard_s = now_s

    def succeeded(self, key: Hashable, reply: Mapping[str, Any]) -> None:
        """A command was answered; a commit or abort ends its transaction."""
        ending = self._ending.pop(key, None) if self._ending else None
        if ending is not None:
            self._open.pop(ending[1], None)

    def failed(self, key: Hashable, failure: Mapping[str, Any]) -> None:
        """A command failed. Without an answer of the server's nobody knows what became of it."""
        ending = self._ending.pop(key, None) if self._ending else None
        if ending is None or "code" not in failure:
            return
        name, session = ending
        labels = failure.get("errorLabels") or ()
        if name == "abortTransaction" or "UnknownTransactionCommitResult" not in labels:
            self._open.pop(session, None)

    def forget(self) -> None:
        """In the child of a fork."""
        self._open.clear()
        self._ending.clear()
