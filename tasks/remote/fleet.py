"""The fleet: one open session per host for the whole run, bounded width, deadlines, all failures kept."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any, Self, TypeVar

from fabric import Connection, GroupResult, ThreadingGroup
from fabric.exceptions import GroupException
from pydantic import BaseModel, ValidationError

from ..agent import failpoints
from ..agent.wire import BEAT_S
from ..core.errors import HostError, UnreachableError
from ..core.hosts import Host
from ..core.requests import Request
from ..core.text import printable
from .session import Session
from .ssh import Connector

M = TypeVar("M", bound=BaseModel)
Seen = Callable[[str], None]
Told = Callable[[Mapping[str, Sequence[Request]], Mapping[str, object], float], None]


class Fleet(ThreadingGroup):  # type: ignore[misc]  # fabric ships no types
    """Fabric's group of Connections, repaired: it opens each host once, at most ``width`` at a time, and never hangs.

    ``where`` are the fields of the agent's opening request: ``deploy_to``, ``link``, ``environment`` and ``who``.
    ``told`` is called after each question, with the answers there were and the seconds that it took.
    """

    def __init__(
        self,
        connector: Connector,
        hosts: Iterable[Host],
        *,
        where: Mapping[str, object],
        width: int,
        become: str | None = None,
        failpoint: str = "",
        told: Told = lambda requests, answers, seconds: None,
    ) -> None:
        super().__init__()
        self._told = told
        self.hosts = {host.name: host for host in hosts}
        self._connector, self._where, self._become, self._failpoint = connector, where, become, failpoint
        self._width = width
        self._pool = ThreadPoolExecutor(max_workers=width, thread_name_prefix="fleet")
        self._sessions: dict[str, Session] = {}
        self._connections: dict[str, Connection] = {}
        self._done = threading.Event()
        self._pulse: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._pulse = threading.Thread(target=self._beat, name="fleet-beat", daemon=True)
        self._pulse.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(
        self,
        requests: Mapping[str, Sequence[Request]],
        reply: type[M],
        *,
        seen: Seen | None = None,
        together: bool = False,
    ) -> dict[str, M | HostError]:
        """Send each host its requests, one after the other, and return what it answered, or why it did not.

        The answers to one host's requests are merged into one ``reply``. A host's first failure ends its own list only.
        With ``together`` the first requests go out to all open sessions at once, before any answer is waited for.
        ``seen`` is called with the name of each host as it is through.
        """
        began, answers = time.monotonic(), dict[str, M | HostError]()
        try:
            self._gather(requests, reply, answers, seen or (lambda name: None), together=together)
        finally:
            self._told(requests, answers, time.monotonic() - began)
        return {name: answers[name] for name in requests}

    def _gather(
        self,
        requests: Mapping[str, Sequence[Request]],
        reply: type[M],
        answers: dict[str, M | HostError],
        seen: Seen,
        *,
        together: bool,
    ) -> None:
        sent = {name for name in requests if together and self._sent(name, requests[name][0])}
        work: dict[Future[M | HostError], str] = {
            self._pool.submit(self._serve, name, requests[name], reply, name in sent): name for name in requests
        }
        for future in as_completed(work):
            answers[work[future]] = future.result()
            seen(work[future])

    def connection(self, name: str) -> Connection:
        """Return the open Connection to a host, opening it where need be; raise UnreachableError."""
        known = self._connections.get(name)
        if known is None or not known.is_connected:
            known = self._connections[name] = self._connector.open(self.hosts[name])
            self.append(known)
        return known

    def close(self) -> None:
        """End every session and connection, waiting a moment for the agents to tidy up and go."""
        self._done.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        with ThreadPoolExecutor(max_workers=self._width) as pool:
            list(pool.map(lambda session: session.wait_closed(5.0), list(self._sessions.values())))
            list(pool.map(_close, list(self._connections.values())))
        self._sessions.clear()
        self._connections.clear()
        self._pool.shutdown(wait=True)

    def _do(self, method: str, *args: Any, **kwargs: Any) -> GroupResult:
        """Serve ``run``, ``put`` and their like of Fabric's group over the same bounded pool; all failures are kept."""
        results = GroupResult()
        work = {self._pool.submit(getattr(each, method), *args, **kwargs): each for each in self}
        for future in as_completed(work):
            results[work[future]] = future.exception() or future.result()
        if results.failed:
            raise GroupException(results)
        return results

    def _serve(self, name: str, requests: Sequence[Request], reply: type[M], sent: bool) -> M | HostError:
        merged: dict[str, Any] = {}
        took: dict[str, tuple[float, float]] = {}
        try:
            session = self._session(name)
            for request in requests:
                began = time.monotonic()
                merged |= session.receive(request.timeout_s) if sent else session.ask(request)
                took[request.verb] = began, time.monotonic()
                sent = False
            return reply.model_validate({**merged, "took": took})
        except UnreachableError as error:
            self._drop(name)
            return error
        except HostError as error:
            return error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            return UnreachableError("garbled", f"the agent's answer is not valid: {printable(place)}: {first['msg']}")

    def _sent(self, name: str, request: Request) -> bool:
        session = self._sessions.get(name)
        if session is None:
            return False
        try:
            session.send(request)
        except UnreachableError:
            return False
        return True

    def _session(self, name: str) -> Session:
        session = self._sessions.get(name)
        if session is None:
            transport = self.connection(name).transport
            session = Session(name, transport, str(self._where.get("deploy_to") or "-"), self._become)
            self._sessions[name] = session
            session.start({**self._where, "failpoint": self._failpoint_for(name)})
        return session

    def _drop(self, name: str) -> None:
        self._sessions.pop(name, None)  # ended with its connection; a word of its own could wait on a cut link
        connection = self._connections.pop(name, None)
        if connection is not None:
            if connection in self:
                self.remove(connection)
            _close(connection)

    def _failpoint_for(self, name: str) -> str:
        """Return the failpoint to arm in this host's agent, or nothing."""
        if not self._failpoint.startswith("agent."):
            return ""
        point, host, occurrence, action = failpoints.parse(self._failpoint)
        return f"{point}:{occurrence}:{action}" if host in (None, name) else ""

    def _beat(self) -> None:
        while not self._done.wait(BEAT_S):
            for session in list(self._sessions.values()):
                session.beat()


def _close(connection: Connection) -> None:
    with contextlib.suppress(Exception):
        connection.close()
