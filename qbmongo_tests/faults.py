"""A proxy between a client and a MongoDB server that makes faults happen where a test wants them.

It reads the wire protocol's messages (never the documents of a request beyond its command's name,
unless a rule asks) and passes them on unchanged, apart from what its rules say, and from `hello`
replies: there the server's address becomes the proxy's, so that drivers that discover the replica
set keep talking to the proxy, and compression is not offered.

    with FaultProxy(server_uri) as proxy:
        client = MongoClient(proxy.uri)
        proxy.on("update", DropReply())              # executed, but the client never learns it
        gate = proxy.hold_reply("find")              # executed, the reply waits for gate.release()
        before = proxy.counts()
        ...
        assert proxy.counts() - before == {"find": 1}

It runs an event loop in a thread of its own, so that blocking and asyncio tests use it alike.
TLS is not supported.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import bson

from qbmongo_tests.wire import (
    HEADER,
    build_answer,
    has_more_to_come,
    parse_request,
    rewrite_hello,
)

HANDSHAKES = frozenset({"hello", "ismaster", "isMaster", "saslStart", "saslContinue"})
_HELLOS = frozenset({"hello", "ismaster", "isMaster"})
_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Command:
    """A command as it passed: name, connection (a running number), its place among all of its name.

    document() decodes its body on demand; payload sequences (kind-1 sections) are left out.
    """

    name: str
    connection: int
    number: int
    body: bytes

    def document(self) -> dict[str, Any]:
        decoded: dict[str, Any] = bson.decode(self.body)
        return decoded


@dataclass(frozen=True, slots=True)
class CloseBefore:
    """Close the connection; the server never sees the command."""


@dataclass(frozen=True, slots=True)
class CloseAfter:
    """Pass the command on and close the client's connection at once.

    The server's stays open until it has replied, so that it does execute the command.
    """


@dataclass(frozen=True, slots=True)
class DropReply:
    """Let the server execute the command, drop its reply, and then close the connection.

    close=False keeps the connection open and silent about this command: half-open.
    """

    close: bool = True


@dataclass(frozen=True, slots=True)
class Swallow:
    """Drop the command; the server never sees it and the connection stays open: half-open."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Pass the command on after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer with this document instead of the server, which never sees the command."""

    document: Mapping[str, Any]


class Gate:
    """Holds commands before the server sees them, or their replies, until it is released."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, reply: bool) -> None:
        self.holds_reply = reply
        self._loop = loop
        self._opened = asyncio.Event()
        self._reached = threading.Event()

    def wait(self, limit_s: float = _WAIT_S) -> None:
        """Block until a command is held; raises TimeoutError after limit_s seconds."""
        if not self._reached.wait(limit_s):
            raise TimeoutError("no command reached the gate")

    async def reached(self, limit_s: float = _WAIT_S) -> None:
        """Wait until a command is held, without blocking the event loop."""
        await asyncio.to_thread(self.wait, limit_s)

    def release(self) -> None:
        """Let everything through, now and from now on. May be called from any thread."""
        with contextlib.suppress(RuntimeError):  # The proxy was stopped: nothing is held any more.
            self._loop.call_soon_threadsafe(self._opened.set)

    async def _pass(self) -> None:
        self._reached.set()
        await self._opened.wait()


Action = CloseBefore | CloseAfter | DropReply | Swallow | Delay | Answer | Gate
Hook = Callable[[Command], "Action | None"]


@dataclass(slots=True, eq=False)
class Rule:
    """What to do with some commands. name None is every command that is no handshake.

    skip: let so many matching commands pass first. times: act on so many; None: on all.
    when: asked in the proxy's thread for those with the right name. hits: acted on so far.
    """

    action: Action
    name: str | None
    times: int | None
    skip: int
    when: Callable[[Command], bool] | None
    hits: int = 0
    _skipped: int = field(default=0, repr=False)

    def takes(self, command: Command) -> bool:
        if self.times is not None and self.hits >= self.times:
            return False
        if self.name != command.name and (self.name is not None or command.name in HANDSHAKES):
            return False
        if self.when is not None and not self.when(command):
            return False
        if self._skipped < self.skip:
            self._skipped += 1
            return False
        self.hits += 1
        return True


@dataclass(slots=True, eq=False)
class _Link:
    """One client connection and the server connection that serves it."""

    number: int
    client_reader: asyncio.StreamReader
    client: asyncio.StreamWriter
    server_reader: asyncio.StreamReader
    server: asyncio.StreamWriter
    # Request id -> (command name, what to do with the reply).
    awaited: dict[int, tuple[str, Action | None]] = field(default_factory=dict)
    # The command that the server goes on replying to by itself, as a streaming `hello`.
    streamed: tuple[str, Action | None] = ("", None)
    client_left: bool = False

    @property
    def is_owed(self) -> bool:
        """Whether the server has yet to reply to a command that is no handshake."""
        return any(name not in HANDSHAKES for name, _ in self.awaited.values())

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class FaultProxy:
    """A proxy for one server; a context manager.

    Args:
        server_uri: mongodb:// connection string of the server; of several hosts the first is used.

    Attributes:
        uri: the same connection string with the proxy's address.
        address: host:port of the proxy.
        hook: asked for each command that no rule takes (handshakes as well), in the proxy's
            thread; for random faults.
        silent: while True nothing passes in either direction, and connections stay open.
        refusing: while True new connections are closed at once.
    """

    def __init__(self, server_uri: str) -> None:
        scheme, rest = server_uri.split("://", 1)
        if scheme != "mongodb":
            raise ValueError(f"only mongodb:// can be proxied, not {scheme}://")
        place, slash, options = rest.partition("/")
        credentials, at, hosts = place.rpartition("@")
        host, _, port = hosts.split(",")[0].partition(":")
        self._server = (host, int(port or 27017))
        self._uri = f"mongodb://{credentials}{at}{{address}}{slash}{options}"
        self.address = ""
        self.hook: Hook | None = None
        self.silent = False
        self.refusing = False
        self._rules: list[Rule] = []
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._numbers = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._ready = threading.Event()
        self._stopping = asyncio.Event()
        self._error: BaseException | None = None

    @property
    def uri(self) -> str:
        """Connection string of the proxy; known once it was started."""
        return self._uri.format(address=self.address)

    def on(
        self,
        name: str | None,
        action: Action,
        *,
        times: int | None = 1,
        skip: int = 0,
        when: Callable[[Command], bool] | None = None,
    ) -> Rule:
        """Add a rule, which comes before the older ones; see Rule for the arguments."""
        rule = Rule(action, name, times, skip, when)
        with self._lock:
            self._rules.insert(0, rule)
        return rule

    def hold(self, name: str | None, **options: Any) -> Gate:
        """Hold commands before the server sees them; takes the options of on()."""
        gate = Gate(self._loop, reply=False)
        self.on(name, gate, **options)
        return gate

    def hold_reply(self, name: str | None, **options: Any) -> Gate:
        """Hold the replies to commands that the server has executed; takes the options of on()."""
        gate = Gate(self._loop, reply=True)
        self.on(name, gate, **options)
        return gate

    def clear(self) -> None:
        """Remove all rules and the hook, and let everything pass. What a gate holds stays held."""
        with self._lock:
            self._rules.clear()
        self.hook = None
        self.silent = self.refusing = False

    def counts(self, *, handshakes: bool = False) -> Counter[str]:
        """How many commands of each name clients have sent, whatever became of them.

        Not counted: what was sent while the proxy was silent.
        """
        with self._lock:
            counts = Counter(self._counts)
        if not handshakes:
            for name in HANDSHAKES:
                counts.pop(name, None)
        return counts

    def close_connections(self) -> None:
        """Close every connection, as a server's end does; returns when it is done."""

        async def close() -> None:
            for link in list(self._links):
                link.abort()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(_WAIT_S)

    @property
    def connections(self) -> int:
        """How many client connections are open."""
        return len(self._links)

    def start(self) -> FaultProxy:
        """Listen on a free port of the loopback interface. A proxy is started once."""
        self._loop = asyncio.SelectorEventLoop()
        self._thread.start()
        if not self._ready.wait(_WAIT_S):
            raise TimeoutError("the proxy did not start")
        if self._error is not None:
            raise self._error
        return self

    def stop(self) -> None:
        """Close everything and end the thread.

        Raises:
            Whatever a hook or a rule's `when` raised first: that is a fault of the test.
        """
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_WAIT_S)
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> FaultProxy:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:
            self._error = error
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def accept() -> None:
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            task = asyncio.ensure_future(self._serve_client(connection))
            tasks.add(task)
            task.add_done_callback(lambda _: tasks.discard(task))
            # A task that is cancelled before its first turn never owned it.
            task.add_done_callback(lambda _: connection.close())

        # asyncio.Server leaves connections open that arrive while it closes.
        # Source: https://github.com/python/cpython/issues/109564
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            listener.setblocking(False)
            self.address = "{}:{}".format(*listener.getsockname())
            self._loop.add_reader(listener, accept)
            self._ready.set()
            await self._stopping.wait()
            self._loop.remove_reader(listener)
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve_client(self, connection: socket.socket) -> None:
        if self.refusing:
            return
        async with _stream(sock=connection) as (client_reader, client):
            try:
                host, port = self._server
                async with _stream(host=host, port=port) as (server_reader, server):
                    await self._join(
                        _Link(next(self._numbers), client_reader, client, server_reader, server)
                    )
            except OSError:
                return

    async def _join(self, link: _Link) -> None:
        self._links.add(link)
        requests = asyncio.ensure_future(self._pump(link.client_reader, link, self._request))
        replies = asyncio.ensure_future(self._pump(link.server_reader, link, self._reply))
        try:
            await asyncio.wait((requests, replies), return_when=asyncio.FIRST_COMPLETED)
            link.client_left = requests.done()
            if link.is_owed:
                # What was sent is executed, whether or not its sender waits for the reply.
                await replies
        finally:
            requests.cancel()
            replies.cancel()
            link.abort()
            self._links.discard(link)
            await asyncio.gather(requests, replies, return_exceptions=True)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        link: _Link,
        handle: Callable[[_Link, bytes], Awaitable[bool]],
    ) -> None:
        try:
            while True:
                header = await reader.readexactly(HEADER.size)
                length = HEADER.unpack(header)[0]
                message = header + await reader.readexactly(length - HEADER.size)
                if not await handle(link, message):
                    return
        except (asyncio.IncompleteReadError, OSError):
            return
        except Exception as error:
            self._error = self._error or error

    async def _request(self, link: _Link, message: bytes) -> bool:
        """Handle one message from a client; False closes the connection."""
        if self.silent:
            return True
        parsed = parse_request(message)
        if parsed is None:
            await _send(link.server, message)
            return True
        name, body = parsed
        action = self._decide(link, name, body)
        if isinstance(action, CloseBefore):
            return False
        if isinstance(action, Swallow):
            return True
        if isinstance(action, Answer):
            await _send(link.client, build_answer(message, action.document))
            return True
        if isinstance(action, Delay):
            await asyncio.sleep(action.seconds)
        if isinstance(action, Gate) and not action.holds_reply:
            await action._pass()
        if not has_more_to_come(message):
            link.awaited[HEADER.unpack_from(message)[1]] = (name, action)
        await _send(link.server, message)
        if isinstance(action, CloseAfter):
            link.client.transport.abort()
            return False
        return True

    async def _reply(self, link: _Link, message: bytes) -> bool:
        """Handle one message from the server; False closes the connection."""
        response_to = HEADER.unpack_from(message)[2]
        name, action = link.awaited.pop(response_to, link.streamed)
        link.streamed = (name, action) if has_more_to_come(message) else ("", None)
        if link.client_left:
            return link.is_owed
        if self.silent:
            return True
        if isinstance(action, DropReply):
            return not action.close
        if isinstance(action, Gate) and action.holds_reply:
            await action._pass()
        if name in _HELLOS:
            message = rewrite_hello(message, self._server, self.address)
        await _send(link.client, message)
        return True

    def _decide(self, link: _Link, name: str, body: bytes) -> Action | None:
        with self._lock:
            self._counts[name] += 1
            command = Command(name, link.number, self._counts[name], body)
            for rule in self._rules:
                if rule.takes(command):
                    return rule.action
        return self.hook(command) if self.hook is not None else None


@contextlib.asynccontextmanager
async def _stream(**where: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is aborted, and really closed, at the end of the block."""
    reader, writer = await asyncio.open_connection(**where)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _send(writer: asyncio.StreamWriter, message: bytes) -> None:
    writer.write(message)
    await writer.drain()
