"""A fleet that is not there: hosts that answer as the agent does, and fail where a test says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from tasks.agent.state import judged
from tasks.core.errors import HostError, RefusedError, UnreachableError
from tasks.core.release import Release
from tasks.core.requests import Request

M = TypeVar("M", bound=BaseModel)
READING = ("probe", "status", "check", "adoption", "foresee")
TRUE_TIME = 1_800_000_000.0
FREE = {"free_bytes": 10**10, "free_inodes": 10**6, "python": "3.11.2", "git": "2.39.2"}


@dataclass
class Fault:
    """A verb fails with ``error``; ``done`` says whether the host did what was asked before it failed."""

    error: HostError
    done: bool = False
    times: int = 1000


def refused(code: str = "refused", *, done: bool = False, times: int = 1000) -> Fault:
    return Fault(RefusedError(code, f"the agent says {code}"), done, times)


def lost(*, done: bool = False, times: int = 1000) -> Fault:
    return Fault(UnreachableError("lost", "the session was lost"), done, times)


@dataclass
class Record:
    """One flip that a host has in its history."""

    id: str
    turn: int
    kind: str
    was: str | None
    at: float


@dataclass
class FakeHost:
    """One host's state, and the verbs of the agent on it. ``faults`` are by verb; ``delay_s`` is how late it flips."""

    name: str
    current: str | None = None
    turn: int = 0
    decision: str = ""
    history: list[Record] = field(default_factory=list)
    pending: Record | None = None
    staged: dict[str, Release] = field(default_factory=dict)
    objects: set[str] = field(default_factory=set)
    docroot: bool = False
    adopted: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)
    findings: list[dict[str, object]] = field(default_factory=list)
    skips: list[dict[str, str]] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)
    off_mirrors: bool = False
    inline: bool = True
    restricted: bool = False
    doomed: list[str] = field(default_factory=list)
    place: str | None = None
    clock_offset_s: float = 0.0
    delay_s: float = 0.0
    armed: str | None = None
    ledger: dict[str, Any] | None = None
    locked: bool = False

    def serve(self, request: Request) -> dict[str, Any]:
        """Answer one request; raise HostError where it is refused, or where the session is lost."""
        fault = self.faults.get(request.verb)
        if fault and fault.times > 0:
            fault.times -= 1
            if fault.done:
                self._do(request)
            if isinstance(fault.error, UnreachableError):
                self.lose()
            raise fault.error
        return self._do(request)

    def lose(self) -> None:
        """End the session: its lock and its armed link go with it."""
        self.locked, self.armed = False, None

    def goes_live(self, release: Release, turn: int, kind: str = "deploy") -> None:
        """Make a release live in the past."""
        self.staged[release.id] = release
        self.objects.add(release.commit)
        self.history.append(Record(release.id, turn, kind, self.current, TRUE_TIME - 1000 + turn))
        self.current, self.turn = release.id, turn

    def forget(self, release: Release) -> None:
        """Undo the newest ``goes_live``: this host was off when the others got the release."""
        record = self.history.pop()
        assert record.id == release.id
        del self.staged[release.id]
        self.objects.discard(release.commit)
        self.current, self.turn = record.was, max((each.turn for each in self.history), default=0)

    def _do(self, request: Request) -> dict[str, Any]:
        if request.verb not in READING and not self.locked:
            self.locked = True
            self._settle()
        answer: dict[str, Any] = getattr(self, f"_do_{request.verb}")(**request.fields)
        return answer

    def _settle(self) -> None:
        if self.pending and self.current == self.pending.id:
            self.history.append(self.pending)
        self.pending = None

    def _do_probe(self) -> dict[str, Any]:
        lived = [*self.history, *([self.pending] if self.pending and self.pending.id == self.current else [])]
        live = next((record for record in reversed(lived) if record.id == self.current), None)
        chosen, left = judged([asdict(record) for record in lived])
        return {
            "chosen": chosen,
            "left": left,
            "current": self.current,
            "current_since": live and live.at,
            "stack": stack(lived),
            "turn": self.turn,
            "live_turn": live.turn if live else 0,
            "releases": {name: manifest(release) for name, release in self.staged.items()},
            "adopted": self.adopted,
            "clock": TRUE_TIME + self.clock_offset_s,
            "offset_s": self.clock_offset_s,
            "problems": self.problems,
            "ledger": self.ledger,
            "unsettled": self.pending is not None,
            "drift": self.drift,
            "place": self.place,
            **FREE,
        }

    _do_settle = _do_status = _do_probe

    def _do_check(self, linked_files: list[str], mirrors: list[dict[str, str]], spread_s: float) -> dict[str, Any]:
        seen = self._do_probe()
        del seen["offset_s"]  # it is told of an answer that tells the time itself: see ``Session.ask``
        return {"findings": self.findings, "probe": seen}

    def _do_fetch(
        self, commit: str, mirrors: list[dict[str, str]], base: str | None = None, **_: Any
    ) -> dict[str, Any]:
        if commit in self.objects:
            return {"from": None, "skipped": []}
        inline = base is not None and self.inline and not self.restricted
        if self.off_mirrors and not inline:
            raise RefusedError("fetch", "no mirror has it")
        self.objects.add(commit)
        return {"from": "inline" if inline else mirrors[0]["name"], "skipped": self.skips}

    def _do_foresee(self, id: str, carries: bool, mirrors: Any = (), commit: str = "", **_: Any) -> dict[str, Any]:  # noqa: A002
        here = commit in self.objects or id in self.adopted
        inline = not here and carries and self.inline and not self.restricted
        names = [] if here or inline else [mirror["name"] for mirror in mirrors]
        found = {"here": here, "inline": inline, "mirrors": names}
        return {**found, "restricted": self.restricted, "pruned": self.doomed}

    def _do_adoption(self, linked_dirs: list[str], linked_files: list[str], undo: bool) -> dict[str, Any]:
        due = self.current in self.adopted if undo else self.docroot
        unsettled = self.pending is not None
        return {"due": due, "told": "as seen", "notes": self.notes, "adopted": [*self.adopted], "unsettled": unsettled}

    def _do_adopt(self, id: str, by: str, reason: str, gap: bool) -> dict[str, Any]:  # noqa: A002
        self.history.append(Record(id, self.turn, "adopt", None, TRUE_TIME))
        self.adopted[id], self.current, self.docroot = "the directory /srv/www", id, False
        return {"changed": [f"adopted as {id}"]}

    def _do_give_back(self, gap: bool) -> dict[str, Any]:
        del self.adopted[self.history.pop().id]
        self.current, self.docroot = None, True
        return {"changed": ["gave back"]}

    def _do_stage(self, id: str, **commit: Any) -> dict[str, Any]:  # noqa: A002
        if commit:
            return self._stage(id, **commit)
        if id not in self.adopted:
            raise RefusedError("not-adopted", f"release {id} was adopted on other targets and is not here")
        return {"made": False, "files": 0}

    def _stage(self, id: str, commit: str, number: int, tree: str, source_commit: str, **_: Any) -> dict[str, Any]:  # noqa: A002
        assert commit in self.objects, "staged before it was fetched"
        made = id not in self.staged
        self.staged[id] = Release(id, number, "prod", source_commit, commit, tree)
        return {"made": made, "files": 3}

    def _do_arm(self, id: str) -> dict[str, Any]:  # noqa: A002
        assert id in self.staged or id in self.adopted, "armed before it was staged"
        self.armed = id
        return {}

    def _do_flip(self, id: str, expect: str | None, turn: int, decision: str, kind: str, **more: Any) -> dict[str, Any]:  # noqa: A002
        if turn < self.turn or (turn == self.turn and decision != self.decision):
            raise RefusedError("stale-turn", f"turn {turn} is not above {self.turn}")
        if self.current != expect:
            raise RefusedError("moved", f"{self.current} is live here")
        if self.armed != id:
            raise RefusedError("not-armed", "the link was not laid")
        at = TRUE_TIME + self.delay_s + self.clock_offset_s
        self.ledger = more.get("ledger", self.ledger)
        self.turn, self.decision, self.pending = turn, decision, Record(id, turn, kind, self.current, at)
        self.current = id
        return {"at": at}

    def _do_after_flip(self, command: list[str], timeout_s: float) -> dict[str, Any]:
        return {}

    def _do_revert(self, decision: str) -> dict[str, Any]:
        if self.pending is None and decision == self.decision and self.history and self.history[-1].turn == self.turn:
            self.pending = self.history.pop()
        if self.pending and decision == self.decision:
            self.current, self.pending = self.pending.was, None
        return {"current": self.current}

    def _do_confirm(self, decision: str) -> dict[str, Any]:
        if decision == self.decision:
            self._settle()
        return {"current": self.current}

    def _do_prune(self, keep: int, spare: bool) -> dict[str, Any]:
        return {"removed": self.doomed}


def stack(history: Sequence[Record]) -> list[str]:
    """Return what a chain of rollbacks would visit, the live one last."""
    seen: list[str] = []
    for record in history:
        if record.kind == "rollback" and record.id in seen:
            del seen[seen.index(record.id) + 1 :]
        elif not seen or seen[-1] != record.id:
            seen.append(record.id)
    return seen


def manifest(release: Release) -> dict[str, object]:
    return {
        "commit": release.commit,
        "source_commit": release.source_commit,
        "tree": release.tree,
        "number": release.number,
    }


class FakeFleet:
    """All hosts; every request that reaches one is recorded in ``asked``, in order, as (verb, host, request)."""

    def __init__(self, hosts: Sequence[FakeHost]) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.asked: list[tuple[str, str, Request]] = []
        self.on_ask: Callable[[str], None] = lambda verb: None
        self.request_s = 1.0

    def ask(
        self,
        requests: Mapping[str, Sequence[Request]],
        reply: type[M],
        *,
        seen: Callable[[str], None] | None = None,
        together: bool = False,
    ) -> dict[str, M | HostError]:
        answers: dict[str, M | HostError] = {}
        for name in requests:
            answers[name] = self._one(name, requests[name], reply)
            if seen:
                seen(name)
        return answers

    def _one(self, name: str, requests: Sequence[Request], reply: type[M]) -> M | HostError:
        merged: dict[str, Any] = {}
        took: dict[str, tuple[float, float]] = {}
        try:
            for request in requests:
                began = len(self.asked) * self.request_s
                took[request.verb] = began, began + self.request_s
                self.on_ask(request.verb)
                self.asked.append((request.verb, name, request))
                merged |= self.hosts[name].serve(request)
        except HostError as error:
            return error
        return reply.model_validate({**merged, "took": took})

    @property
    def verbs(self) -> list[str]:
        """The verbs in the order in which each was first asked."""
        return list(dict.fromkeys(verb for verb, _, _ in self.asked))

    def got(self, verb: str) -> list[str]:
        """Return the hosts that were asked a verb, each once."""
        return sorted({name for asked, name, _ in self.asked if asked == verb})

    def requests(self, verb: str) -> list[Request]:
        return [request for asked, _, request in self.asked if asked == verb]
