"""A client's writes and transactions, step by step, as a driver and its events make them."""

from __future__ import annotations

from typing import Any

from .documents import IDS
from .operations import Operation, any_operation, dropping, foreign_operation, unknown_operation
from .oracle import OwnWrite
from .server import Branch, Transaction
from .world import Actor, Cancelled, DriverError, Request, Steps, World

__all__ = ["OtherWriter", "TransactionWriter", "Writer"]

# Errors a driver sees: the connection broke (no code), or the server says so.
_FAILURES: dict[str | int, dict[str, Any]] = {
    "network": {"failure": "connection closed"},
    "not_primary": {"ok": 0, "code": 10107, "errmsg": "not primary"},
}


def _failure(error: str | int) -> dict[str, Any]:
    return _FAILURES.get(error) or {"ok": 0, "code": error, "errmsg": "refused"}


class _Caller:
    """What every writer of the client's does."""

    actor: Actor

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name

    def _tell(self, key: object, name: str, request: Request, branch: Branch) -> None:
        """The driver publishes what became of a command."""
        world = self._world
        if request.error is None:
            reply, address = world.reply(request.time), branch.primary.address
            world.engine.command_succeeded(key, name, reply, address, world.clock.now_s)
        else:
            world.failed(request.error)
            world.engine.command_failed(key, name, _failure(request.error), world.clock.now_s)


class Writer(_Caller):
    """One task or thread that writes, again and again."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._session = 0
        self.actor = world.spawn(name, self._run())

    def _run(self) -> Steps:
        world = self._world
        while True:
            yield from world.pause()
            operation = self._operation()
            owner = OwnWrite([operation], world.clock)
            try:
                yield None
                self.actor.may_cancel = True
                yield from world.call(self._name, self._write(operation, owner))
                world.say(f"{self._name}: {operation} acknowledged")
                world.oracle.acknowledge(owner)
            except Cancelled:
                world.say(f"{self._name}: {operation} cancelled")
            except DriverError as error:
                world.say(f"{self._name}: {operation} failed: {error}")
            self.actor.may_cancel = False

    def _operation(self) -> Operation:
        world = self._world
        below, version = world.choices.below, world.next_version()
        if "unknown" in world.often and below(2):
            return unknown_operation(below(len(IDS)), version)
        if "foreign" in world.often and below(2):
            return foreign_operation({"_id": below(len(IDS)), "g": 0, "n": 0, "v": version})
        return any_operation(
            world.choices, version, is_own=True, definitions=world.config.ttl_s is None
        )

    def _write(self, operation: Operation, owner: OwnWrite) -> Steps:
        """The driver's part."""
        world = self._world
        engine, clock, below = world.engine, world.clock, world.choices.below
        command, name = dict(operation.command), operation.command_name
        session = None
        if below(16) == 15 and operation.is_retryable:
            yield from self._unacknowledged(operation, owner)
            return
        if operation.is_retryable:
            self._session += 1
            session = (self._name, self._session)
            command |= {"lsid": {"id": self._name.encode()}, "txnNumber": self._session}
        is_majority = below(2) == 0
        opened: set[int] = set()
        first_error_s = None
        request = Request()
        try:
            for attempt in range(2 if session is not None else 1):
                if attempt:
                    yield from world.on_its_way()
                key = world.next_key()
                engine.command_started(key, name, operation.database, command, clock.now_s)
                opened.add(key)
                yield None
                branch, request = world.selected, Request()
                steps = world.write(
                    branch, operation, owner, session, request, is_majority=is_majority
                )
                world.send(str(operation), request, steps)
                yield request.answered
                self._tell(key, name, request, branch)
                opened.discard(key)
                if request.error is not None and first_error_s is None:
                    first_error_s = clock.now_s
                yield None
                if request.error not in ("network", "not_primary"):
                    break
            if request.error is not None:
                raise DriverError(request.error)
        finally:
            if opened:
                engine.abandoned(opened, clock.now_s)
            world.oracle.unknown(owner, clock.now_s if first_error_s is None else first_error_s)

    def _unacknowledged(self, operation: Operation, owner: OwnWrite) -> Steps:
        """w: 0: published as succeeded when it is sent; the outcome stays unknown."""
        world = self._world
        key, name = world.next_key(), operation.command_name
        command = {**operation.command, "writeConcern": {"w": 0}}
        world.engine.command_started(key, name, operation.database, command, world.clock.now_s)
        yield None
        request = Request()
        steps = world.write(world.selected, operation, owner, None, request, is_majority=False)
        world.send(f"unacknowledged {operation}", request, steps)
        now_s, address = world.clock.now_s, world.selected.primary.address
        world.engine.command_succeeded(key, name, {"ok": 1}, address, now_s)
        world.oracle.unknown(owner, now_s)
        raise DriverError("unacknowledged")


class TransactionWriter(_Caller):
    """One task or thread that writes in transactions."""

    def __init__(self, world: World, name: str, *, is_busy: bool) -> None:
        super().__init__(world, name)
        self._is_busy = is_busy
        self._sessions = 0
        self._number = 0
        self._lsid = name.encode()
        self.actor = world.spawn(name, self._run())

    def _run(self) -> Steps:
        world = self._world
        while True:
            if not self._is_busy:
                yield from world.pause()
            self._number += 1
            session = (self._lsid, self._number)
            owner = OwnWrite([], world.clock)
            try:
                yield None
                self.actor.may_cancel = True
                if (yield from world.call(self._name, self._transact(owner, session))):
                    world.say(f"{self._name}: {owner.operations} acknowledged")
                    world.oracle.acknowledge(owner)
            except (Cancelled, DriverError) as error:
                world.say(f"{self._name}: {owner.operations} {type(error).__name__} {error}")
                if type(error) is Cancelled:
                    # Its thread may still be using the session.
                    self._renew_session()
            self.actor.may_cancel = False
            if world.choices.below(8) == 7:
                yield from self._end_session()

    @staticmethod
    def _fields(session: tuple[bytes, int]) -> dict[str, Any]:
        return {"lsid": {"id": session[0]}, "txnNumber": session[1], "autocommit": False}

    def _transact(self, owner: OwnWrite, session: tuple[bytes, int]) -> Steps:
        """The driver's part; whether it was committed for certain."""
        world, below = self._world, self._world.choices.below
        for _ in range(1 + below(2)):
            operation = any_operation(
                world.choices, world.next_version(), is_own=True, definitions=False
            )
            if operation.whole is not None:
                continue
            request = yield from self._command(
                operation.command_name,
                operation.database,
                {**operation.command, **self._fields(session)},
                lambda branch, r, op=operation: self._execute(branch, session, op, r),
            )
            if request.error is not None:
                yield from self._end("abortTransaction", session, owner)
                raise DriverError(request.error)
            owner.operations.append(operation)
        if below(6) == 5:
            yield from self._end("abortTransaction", session, owner)
            raise DriverError("aborted")
        request = Request()
        for attempt in range(2 + 2 * below(2)):
            if attempt == 2:
                # The driver has tried twice; the program asks it to commit again.
                yield from world.pause()
            elif attempt:
                yield from world.on_its_way()
            request = yield from self._end("commitTransaction", session, owner)
            if request.error is None:
                return True
            if request.error not in ("network", "not_primary"):
                break
        raise DriverError(f"commit: {request.error}")

    def _command(self, name: str, database: str, command: dict[str, Any], execute: Any) -> Steps:
        world = self._world
        key = world.next_key()
        world.engine.command_started(key, name, database, command, world.clock.now_s)
        is_told = False
        try:
            yield None
            branch, request = world.selected, Request()
            world.send(f"{name} in {self._name}", request, execute(branch, request))
            yield request.answered
            self._tell(key, name, request, branch)
            is_told = True
        finally:
            if not is_told:
                world.engine.abandoned([key], world.clock.now_s)
        yield None
        return request

    def _end(self, name: str, session: Any, owner: OwnWrite) -> Steps:
        world = self._world
        commits = name == "commitTransaction"
        first_s = world.clock.now_s
        try:
            return (
                yield from self._command(
                    name,
                    "admin",
                    {name: 1, **self._fields(session)},
                    lambda branch, r: self._finish(branch, session, owner, r, commits=commits),
                )
            )
        finally:
            if commits:
                world.oracle.unknown(owner, first_s)

    def _end_session(self) -> Steps:
        command = {"endSessions": [{"id": self._lsid}]}
        lsid = self._lsid
        yield from self._command(
            "endSessions", "admin", command, lambda branch, r: self._forget(branch, lsid, r)
        )
        self._renew_session()

    def _renew_session(self) -> None:
        self._sessions += 1
        self._lsid = f"{self._name}-{self._sessions}".encode()

    # The server's part

    def _execute(
        self, branch: Branch, session: tuple[bytes, int], operation: Operation, request: Request
    ) -> Steps:
        yield None
        if branch.is_dead:
            request.answer("not_primary")
            return
        transaction = branch.transactions.get(session)
        if transaction is None:
            self._leave_behind(branch, session[0], session[1])
            transaction = branch.transactions[session] = Transaction()
        conflict = branch.is_blocked(operation, transaction)
        if transaction.is_over or conflict or not branch.write_in(transaction, operation):
            branch.end(transaction)
            request.answer(112, branch.last_applied)
            return
        self._world.say("server", branch.number, "keeps", operation, "for", session)
        request.answer(time=branch.last_applied)

    def _leave_behind(self, branch: Branch, lsid: bytes, number: int) -> None:
        """A session's earlier transactions end, unless they are being committed."""
        for other, transaction in branch.transactions.items():
            is_earlier = isinstance(other, tuple) and other[0] == lsid and other[1] < number
            if is_earlier and transaction.entry is None and not transaction.is_over:
                branch.end(transaction)

    def _finish(
        self, branch: Branch, session: Any, owner: OwnWrite, request: Request, *, commits: bool
    ) -> Steps:
        yield None
        if branch.is_dead:
            request.answer("not_primary")
            return
        transaction = branch.transactions.get(session)
        entry = transaction.entry if transaction is not None else None
        if transaction is None or (transaction.is_over and entry is None):
            request.answer(251, branch.last_applied)
            return
        if entry is None:
            if not commits:
                branch.end(transaction)
                request.answer(time=branch.last_applied)
                return
            entry = branch.reserve_commit(transaction, owner)
            yield None
            if not branch.is_dead:
                branch.commit(entry)
                branch.end(transaction)
                self._world.say("server", branch.number, "commits", owner.operations)
        yield lambda: branch.is_dead or entry.is_committed
        if branch.is_dead:
            request.answer("not_primary")
        else:
            request.answer(time=entry.time)

    def _forget(self, branch: Branch, lsid: bytes, request: Request) -> Steps:
        yield None
        if branch.is_dead:
            request.answer("not_primary")
            return
        self._leave_behind(branch, lsid, self._number + 1)
        request.answer(time=branch.last_applied)


class OtherWriter:
    """Another program; it always knows the newest primary."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self.actor = world.spawn(name, self._run())

    def _run(self) -> Steps:
        world = self._world
        while True:
            yield from world.pause()
            operation = any_operation(
                world.choices,
                world.next_version(),
                is_own=False,
                # Without a stream nobody tells what a namespace has become.
                definitions=world.config.ttl_s is None,
            )
            branch = world.newest
            if branch.state.is_view and world.choices.below(3) == 0:
                operation = dropping()
            yield lambda branch=branch, operation=operation: (  # type: ignore[misc]
                branch is not world.newest or not branch.is_blocked(operation, self)
            )
            if branch is not world.newest:
                continue
            try:
                entry = branch.reserve(operation, None)
            except ValueError:
                continue
            if entry is None:
                continue
            for target in entry.changes:
                branch.locks[target] = self
            if operation.whole is None:
                yield None
            if branch is not world.newest:
                branch.abandon(entry)
                continue
            branch.commit(entry)
            world.say(f"{self._name}:", operation, "at", entry.time)
