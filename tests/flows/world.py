"""A whole small world for a story: settings, hosts, a source, mirrors, and hands that hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from fake_book import FakeBook
from fake_fleet import FakeFleet, FakeHost

from tasks.core.config import Settings, parse
from tasks.core.errors import RepositoryError, UsageError
from tasks.core.facts import Difference
from tasks.core.hosts import Host
from tasks.core.plan import Commits, Plan
from tasks.core.policy import FailPolicy, Limit
from tasks.core.release import Release, release_id
from tasks.core.report import Report
from tasks.flows.adopt import AdoptReport, adopt
from tasks.flows.deploy import deploy
from tasks.flows.hands import Hands
from tasks.flows.plan import plan_deploy, plan_rollback
from tasks.flows.releasing import Releasing
from tasks.flows.rollback import rollback
from tasks.transports import Transport
from tasks.transports.git import GitTransport

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
TOML = """
[app]
name = "www"
[source]
path = "/srv/www"
[[mirrors]]
host = "mirror-1"
path = "/srv/git/www.git"
[[mirrors]]
host = "mirror-2"
path = "/srv/git/www.git"
[targets]
deploy_to = "/srv/app"
keep = 4
linked_dirs = ["storage"]
linked_files = [".env"]
{after_flip}
"""


def oid(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def made(number: int) -> Release:
    """Return the release that the tests call ``number``."""
    source = oid(f"source {number}")
    identity = release_id(BEGAN + timedelta(minutes=number), number, source)
    return Release(identity, number, "prod", source, oid(f"release {number}"), oid(f"tree {number}"))


@dataclass
class FakeSource:
    """The source repository: ``refs`` name commits, ``trees`` are theirs, ``stored`` the releases it has objects of."""

    refs: dict[str | None, str] = field(default_factory=dict)
    trees: dict[str, str] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)
    stored: dict[str, Release] = field(default_factory=dict)
    tag_names: tuple[str, ...] = ()
    dirty: str = ""
    parents: list[str | None] = field(default_factory=list)
    drafts: dict[str, Release] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    def resolve(self, ref: str | None) -> str:
        return self.refs[ref]

    def refuse_dirty(self, ref: str | None) -> None:
        if self.dirty and ref is None:
            raise UsageError(self.dirty)

    def snapshot(self, when: datetime) -> str:
        return self.refs["on disk"]

    def tree_of(self, commit: str) -> str:
        return self.trees[commit]

    def has(self, oid: str) -> bool:
        known = {*self.stored, *self.drafts, *self.trees.values()}
        return oid in known - self.unknown

    def releases(self, environment: str) -> dict[str, str]:
        return self.own

    def tags(self) -> tuple[str, ...]:
        return self.tag_names

    def read_release(self, environment: str, identity: str, commit: str) -> Release:
        return self.stored[commit]

    def refspecs(self, release: Release) -> Sequence[str]:
        return (f"{release.commit}:{release.ref}", f"refs/tags/{release.tag}")

    def changes(self, old: str | None, new: str, most: int = 0) -> Difference:
        names = {"added": ("a\nb",), "changed": ("c", "d"), "removed": ("e",)}
        return Difference(counts={"added": 1, "changed": 2, "removed": 3}, names=names)

    def commits(self, old: str, new: str, most: int) -> Commits | None:
        return None if old in self.unknown else Commits(1, 0, ("mend it\x1b[2J",))

    def weight(self, base: str | None, commit: str) -> int:
        return 2_000_000 if base else 50_000_000

    def draft_release(
        self, environment: str, number: int, commit: str, tree: str, parent: str | None, when: datetime
    ) -> Release:
        identity = release_id(when, number, commit)
        release = Release(identity, number, environment, commit, oid(f"{identity} {parent}"), tree)
        self.drafts[release.commit] = release
        return release

    def make_release(
        self, environment: str, number: int, commit: str, tree: str, parent: str | None, when: datetime
    ) -> Release:
        self.parents.append(parent)
        release = self.draft_release(environment, number, commit, tree, parent, when)
        self.own[release.id] = release.commit
        self.stored[release.commit] = release
        return release


@dataclass
class FakeMirrors:
    """The mirrors: ``hub`` holds {ref: commit}; ``broken`` those that fail, "hub" being the first."""

    source: FakeSource
    hub: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, Release] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    pushed: list[Sequence[str]] = field(default_factory=list)
    brought: list[str] = field(default_factory=list)
    detoured: list[str] = field(default_factory=list)

    def hub_refs(self, prefix: str) -> dict[str, str]:
        if "hub" in self.broken:
            raise RepositoryError("the hub is out of reach")
        return {ref: commit for ref, commit in self.hub.items() if ref.startswith(prefix.rstrip("*"))}

    def bring(self, ref: str, commit: str) -> None:
        self.brought.append(ref)
        self.source.stored[commit] = self.elsewhere[commit]

    def unreadable(self) -> dict[str, RepositoryError]:
        return {name: RepositoryError("it is off") for name in self.broken}

    def push(self, refspecs: Sequence[str]) -> dict[str, RepositoryError]:
        if self.broken & {"hub", "push"}:
            raise RepositoryError("the hub did not take the push")
        self.pushed.append(refspecs)
        commit, _, ref = refspecs[0].partition(":")
        self.hub[ref] = commit
        return {name: RepositoryError("its disk is full") for name in self.broken}

    def detours(self) -> Sequence[str]:
        return self.detoured


@dataclass
class FakeProgress:
    """What was shown."""

    titles: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Callable[[str], None]]:
        self.titles.append(title)
        yield lambda name: None

    def say(self, line: str) -> None:
        self.lines.append(line)


class World:
    """Targets on which the releases 1 to ``live`` were deployed one after the other, and a source that has one more."""

    def __init__(
        self,
        groups: Mapping[str, str] | None = None,
        *,
        live: int = 2,
        fail_limit: Limit = 0,
        group_limits: Mapping[str, Limit] | None = None,
        after_flip: bool = True,
    ) -> None:
        self.settings = self._settings(groups or {"web": "web-[1-3]"}, after_flip=after_flip)
        self.policy = FailPolicy(fail_limit, group_limits or {})
        self.targets = [FakeHost(host.name) for host in self.settings.hosts]
        self.fleet = FakeFleet(self.targets)
        self.source, self.progress, self.passed = FakeSource(), FakeProgress(), list[str]()
        self.mirrors = FakeMirrors(self.source)
        self.shield = SimpleNamespace(interrupted=False, state="")
        self.interrupt_at = ""
        self.elapsed_s, self.nonce = 0.0, "n0"
        self.reason = "because"
        self.transport: Transport = GitTransport(self.settings.mirrors, "deploy", 900.0)
        self.book, self.config, self.wait_s, self.new_hosts, self.lost_records = FakeBook(), "c0ffee", 0.0, False, False
        self.live = [made(number) for number in range(1, live + 1)]
        for release in self.live:
            for target in self.targets:
                target.goes_live(release, release.number)
            self.mirrors.hub[release.ref] = release.commit
            self.source.own[release.id] = release.commit
            self.source.stored[release.commit] = release
            self.source.trees[release.source_commit] = release.tree
        self.commit(live + 1)

    def commit(self, number: int) -> None:
        """Let the branch point at the commit of release ``number``."""
        new = made(number)
        self.source.refs[None] = self.source.refs["main"] = new.source_commit
        self.source.trees[new.source_commit] = new.tree

    def deploy(self, ref: str | None = None, *, snapshot: bool = False) -> Report:
        hands = self.hands()
        return deploy(hands, Releasing(hands, self.source, self.mirrors, ref, snapshot))

    def plan(self, ref: str | None = None, *, snapshot: bool = False) -> Plan:
        return plan_deploy(Releasing(self.hands(), self.source, self.mirrors, ref, snapshot), ("--only", "web"))

    def plan_rollback(self, to: str | None = None) -> Plan:
        return plan_rollback(self.hands(), to, (), lambda: self.source)

    def rollback(self, to: str | None = None) -> Report:
        return rollback(self.hands(), to)

    def adopt(self, *, undo: bool = False, plan: bool = False, gap: bool = False) -> AdoptReport:
        return adopt(self.hands(), undo=undo, plan=plan, gap=gap)

    def hands(self, hosts: Sequence[Host] | None = None) -> Hands:
        return Hands(
            settings=self.settings,
            hosts=hosts or self.settings.hosts,
            fleet=self.fleet,
            progress=self.progress,
            transport=self.transport,
            policy=self.policy,
            now=lambda: BEGAN + timedelta(days=1),
            elapsed=self._tick,
            shield=self._shield,
            failpoint=self._pass,
            nonce=self.nonce,
            by="ann@laptop",
            book=self.book,
            reason=self.reason,
            config=self.config,
            wait_s=self.wait_s,
            new_hosts=self.new_hosts,
            lost_records=self.lost_records,
        )

    def new_run(self) -> None:
        """Begin another run: sessions end, what was asked is forgotten, and all faults are mended."""
        for target in self.targets:
            target.lose()
            target.faults.clear()
        self.fleet.asked.clear()
        self.interrupt("")
        self.shield.interrupted = False
        self.book.end()
        self.nonce += "+"

    def deploy_killed_at(self, verb: str, arrived: int = 0) -> None:
        """Let a deploy be killed when it asks for ``verb`` and so many had got that; what comes next is another run."""

        def die(asked: str) -> None:
            if asked == verb and len(self.fleet.requests(verb)) >= arrived:
                raise SystemExit

        self.fleet.on_ask = die
        with pytest.raises(SystemExit):
            self.deploy()
        self.fleet.on_ask = lambda verb: None
        self.new_run()

    @property
    def shown(self) -> list[str | None]:
        """What is live on each target."""
        return [target.current for target in self.targets]

    def _tick(self) -> float:
        self.elapsed_s += 1.0
        return self.elapsed_s

    def interrupt(self, at: str) -> None:
        """Let Ctrl-C be typed when a verb is asked or a failpoint passed."""
        self.interrupt_at = at
        self.fleet.on_ask = self._interrupt

    def _interrupt(self, at: str) -> None:
        if at == self.interrupt_at:
            self.shield.interrupted = True

    def _pass(self, name: str) -> None:
        self.passed.append(name)
        self._interrupt(name)

    def _shield(self) -> AbstractContextManager[SimpleNamespace]:
        return nullcontext(self.shield)

    @staticmethod
    def _settings(groups: Mapping[str, str], *, after_flip: bool) -> Settings:
        tables = "".join(f'[targets.groups.{name}]\nhosts = ["{hosts}"]\n' for name, hosts in groups.items())
        command = 'after_flip = ["reload"]' if after_flip else ""
        return parse(TOML.format(after_flip=command) + tables, "prod", "prod.toml")


def states(report: Report) -> dict[str, str]:
    return {outcome.host: outcome.state.value for outcome in report.outcomes}
