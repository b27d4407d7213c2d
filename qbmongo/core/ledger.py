"""The writes that are under way: which effects close when.

A pure state object around somebody else's command monitoring. An effect happens when it closes:

- A command's effects close when it is over, whether it succeeded, failed, or nobody will ever hear
  of it (`abandoned`).
- In a transaction they close with every commitTransaction that is sent, again and again until one
  has a definite outcome, and once more when the session ends or takes a higher transaction number.
- What had to be forgotten to bound memory counts as everything.

Methods are called under the client's lock.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..records import EVERYTHING, Effect
from .effects import READ_COMMANDS, SESSION_COMMANDS, effects_of

__all__ = ["NOTHING", "Closed", "Ledger"]


@dataclass(slots=True)
class Closed:
    """Effects that happen now.

    unknown: they may happen later, too (unacknowledged, cancelled, network error, unknown commit).
    """

    effects: tuple[Effect, ...]
    unknown: bool = False


NOTHING = Closed(())
_LOST = Closed((EVERYTHING,), unknown=True)

# NoSuchTransaction and TransactionTooOld: the transaction is gone. After any other error a commit
# may be sent again and succeed. Source: the driver specification "Transactions".
_GONE = frozenset({225, 251})

# What one transaction keeps: identifiers and paths of effects, and new documents.
_MAX_WEIGHT = 10_000
_MAX_DOCUMENTS = 256
_MAX_NAMESPACES = 100


class _Turn(NamedTuple):
    """Which transaction: a session's identifier and its transaction number."""

    session: bytes
    number: int


class _Transaction:
    """The effects of one transaction, kept until its outcome is definite."""

    __slots__ = ("documents", "effects", "number", "uncertain", "weight")

    def __init__(self, number: int) -> None:
        self.number = number
        self.effects: tuple[Effect, ...] = ()
        self.weight = 0
        self.documents = 0
        self.uncertain = False

    def add(self, effects: tuple[Effect, ...]) -> None:
        self.documents += sum(len(effect.documents or ()) for effect in effects)
        if self.documents > _MAX_DOCUMENTS:
            effects = tuple(replace(effect, documents=None) for effect in effects)
        self.effects += effects
        self.weight += sum(map(_weight, effects))
        if self.weight > _MAX_WEIGHT:
            self.effects = _widened(self.effects)
            self.weight = len(self.effects)


@dataclass(slots=True)
class _Open:
    """A command that was sent. turn is set for the commands that end a transaction."""

    effects: tuple[Effect, ...]
    unacknowledged: bool = False
    turn: _Turn | None = None
    commits: bool = False
    ended: tuple[bytes, ...] = ()


class Ledger:
    """Open writes of one client, by (connection id, request id).

    Args:
        max_open: commands under way that are remembered.
        max_transactions: sessions whose transactions are kept.
    """

    __slots__ = (
        "_evicted",
        "_lost",
        "_max_open",
        "_max_transactions",
        "_open",
        "_transactions",
    )

    def __init__(self, *, max_open: int = 10_000, max_transactions: int = 100) -> None:
        self._max_open = max_open
        self._max_transactions = max_transactions
        self._open: dict[Hashable, _Open] = {}
        self._transactions: dict[bytes, _Transaction] = {}
        self._lost = False
        self._evicted = False

    def started(
        self,
        key: Hashable,
        command_name: str,
        database: str,
        command: Mapping[str, Any],
        *,
        mutable_ok: bool,
    ) -> Closed:
        """A command is about to be sent.

        Args:
            key: identifies this sending until its outcome is told.
            command_name, database, command, mutable_ok: as in `effects.effects_of`.

        Returns:
            What closes by that: a transaction that the session has left behind.
        """
        left = self._leave_behind(command) if self._transactions else NOTHING
        if command_name in READ_COMMANDS:
            return left
        if command_name == "endSessions":
            self._remember(key, _Open((), ended=_sessions(command.get("endSessions"))))
            return left
        if command_name in SESSION_COMMANDS:
            self._remember(key, self._end_of_transaction(command_name, command))
            return left
        effects = effects_of(command_name, database, command, mutable_ok=mutable_ok)
        if effects:
            kept = command.get("autocommit") is False and self._keep(command, effects)
            if not kept or EVERYTHING in effects:
                # Nobody knows whether an unknown command waits for the commit.
                concern = command.get("writeConcern")
                self._remember(key, _Open(effects, concern is not None and _is_nothing(concern)))
        return left

    def succeeded(self, key: Hashable, reply: Any) -> Closed:
        """A command succeeded; for an unacknowledged one that says nothing of its outcome."""
        opened = self._open.pop(key, None)
        if opened is None:
            return _LOST if self._lost else NOTHING
        if opened.turn is not None:
            definite = not (isinstance(reply, Mapping) and reply.get("writeConcernError"))
            return self._ended(opened, opened.turn, definite=definite)
        return self._over(opened, opened.unacknowledged)

    def failed(self, key: Hashable, failure: Any) -> Closed:
        """The driver told that a command failed: it may have written all the same."""
        opened = self._open.pop(key, None)
        if opened is None:
            return _LOST if self._lost else NOTHING
        if opened.turn is not None:
            return self._ended(opened, opened.turn, definite=_is_gone(failure))
        return self._over(opened, opened.unacknowledged or not _is_reply(failure))

    def abandoned(self, key: Hashable) -> Closed:
        """Nothing will be told of a command any more, or not in time: its caller was cancelled."""
        opened = self._open.pop(key, None)
        if opened is None:
            return _LOST if self._lost else NOTHING
        if opened.turn is not None:
            return self._ended(opened, opened.turn, definite=False)
        return self._over(opened, True)

    def open_effects(self) -> tuple[Effect, ...]:
        """Effects that have yet to close: of commands under way and of transactions."""
        if self._lost:
            return (EVERYTHING,)
        effects = [effect for opened in self._open.values() for effect in opened.effects]
        for transaction in self._transactions.values():
            effects += transaction.effects
        return tuple(effects)

    @property
    def overflowed(self) -> bool:
        """Commands were under way that could not be remembered: every unknown key is everything."""
        return self._lost

    def _remember(self, key: Hashable, opened: _Open) -> None:
        before = self._open.get(key)
        if before is not None:
            opened.effects = before.effects + opened.effects
        elif len(self._open) >= self._max_open:
            self._lost = True
            return
        self._open[key] = opened

    def _over(self, opened: _Open, unknown: bool) -> Closed:
        effects = opened.effects
        for session in opened.ended:
            transaction = self._transactions.pop(session, None)
            if transaction is not None:
                effects += transaction.effects
                unknown = unknown or transaction.uncertain
        return Closed(effects, unknown) if effects else NOTHING

    # Transactions

    def _keep(self, command: Mapping[str, Any], effects: tuple[Effect, ...]) -> bool:
        """Keep effects until their transaction's outcome; False if there is no such transaction."""
        turn = _turn(command)
        if turn is None:
            return False
        transaction = self._transactions.get(turn.session)
        if transaction is None:
            some_were_forgotten = self._evicted
            if len(self._transactions) >= self._max_transactions:
                del self._transactions[next(iter(self._transactions))]
                self._evicted = True
            transaction = self._transactions[turn.session] = _Transaction(turn.number)
            if some_were_forgotten and not command.get("startTransaction"):
                # It may be one of them, with what it wrote before.
                transaction.add((EVERYTHING,))
        if transaction.number != turn.number:
            return False
        transaction.add(effects)
        return True

    def _end_of_transaction(self, command_name: str, command: Mapping[str, Any]) -> _Open:
        turn = _turn(command)
        if turn is None:
            return _Open((EVERYTHING,))
        transaction = self._transactions.get(turn.session)
        if transaction is not None and transaction.number == turn.number:
            effects = transaction.effects
        else:
            effects = (EVERYTHING,) if self._evicted else ()
        return _Open(effects, turn=turn, commits=command_name == "commitTransaction")

    def _ended(self, opened: _Open, turn: _Turn, *, definite: bool) -> Closed:
        """A commit or an abort is over. Its own reference closes whatever became of the record."""
        transaction = self._transactions.get(turn.session)
        if transaction is not None and transaction.number == turn.number:
            if definite:
                del self._transactions[turn.session]
            else:
                transaction.uncertain = True
        if not opened.effects or (definite and not opened.commits):
            return NOTHING
        return Closed(opened.effects, unknown=not definite)

    def _leave_behind(self, command: Mapping[str, Any]) -> Closed:
        turn = _turn(command)
        if turn is None:
            return NOTHING
        transaction = self._transactions.get(turn.session)
        if transaction is None or transaction.number >= turn.number:
            return NOTHING
        del self._transactions[turn.session]
        return Closed(transaction.effects, transaction.uncertain)


def _turn(command: Mapping[str, Any]) -> _Turn | None:
    number = command.get("txnNumber")
    session = _session(command.get("lsid")) if number is not None else None
    return None if number is None or session is None else _Turn(session, int(number))


def _session(lsid: Any) -> bytes | None:
    identifier = lsid.get("id") if isinstance(lsid, Mapping) else None
    return bytes(identifier) if isinstance(identifier, bytes) else None


def _sessions(lsids: Any) -> tuple[bytes, ...]:
    if not isinstance(lsids, (list, tuple)):
        return ()
    return tuple(session for session in map(_session, lsids) if session is not None)


def _is_nothing(concern: Any) -> bool:
    """Whether a write concern asks for no acknowledgement."""
    return isinstance(concern, Mapping) and concern.get("w") == 0


def _is_reply(failure: Any) -> bool:
    """Whether a failure is the server's answer, not an error on the way to or from it."""
    return isinstance(failure, Mapping) and ("code" in failure or "ok" in failure)


def _is_gone(failure: Any) -> bool:
    """Whether the server's answer to a commit or abort says that there is no such transaction.

    A whole reply says so; a write concern error alone is published without `ok`.
    """
    return (
        isinstance(failure, Mapping)
        and "ok" in failure
        and failure.get("code") in _GONE
        and not failure.get("writeConcernError")
        and "UnknownTransactionCommitResult" not in (failure.get("errorLabels") or ())
    )


def _weight(effect: Effect) -> int:
    return 1 + len(effect.ids or ()) + len(effect.paths or ())


def _widened(effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    """Fewer effects that say at least as much: any document of each collection."""
    if any(effect.kind in ("database", "everything") for effect in effects):
        return (EVERYTHING,)
    whole = {effect.namespace for effect in effects if effect.kind == "namespace"}
    names = {effect.namespace for effect in effects}
    if len(names) > _MAX_NAMESPACES:
        return (EVERYTHING,)
    return tuple(Effect("namespace" if name in whole else "insert", name) for name in sorted(names))
