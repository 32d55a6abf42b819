"""The desk: where everything is wired together for one command."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Self, TypeVar

from invoke.exceptions import Exit

from . import _show
from ._choices import choose, policy, swarming
from ._cli import Asked, Options, exit_code_of, state_folder
from ._here import cache_folder, operator, read_settings
from ._setting_up import Logins, pinned
from ._show_plan import show_plan
from ._sources import choose_source
from .core.errors import RepositoryError, UsageError
from .core.facts import Finding
from .core.hosts import Host, select
from .core.requests import Request
from .core.text import printable
from .core.told import Told
from .flows.adopt import adopt
from .flows.check import check
from .flows.deploy import deploy
from .flows.hands import Hands
from .flows.locking import lock, unlock
from .flows.mirrors import check_mirrors, sync_mirrors
from .flows.plan import plan_deploy, plan_rollback
from .flows.reading import Reader
from .flows.releasing import Releasing
from .flows.rollback import rollback
from .flows.status import status
from .remote.book import open_book
from .remote.crew import LocalCrew
from .remote.failpoints import arm, failpoint
from .remote.fleet import Fleet
from .remote.interrupts import Shield
from .remote.ledger import Book
from .remote.mirrorset import MirrorSet
from .remote.owning import OwningFleet
from .remote.run_log import LoggedProgress, RunLog
from .remote.source import Source
from .remote.ssh import Connector

DEMO = "demo"


F = TypeVar("F", bound=_show.Found)


class Desk:
    """One command's hands: settings, fleet, source and mirrors, opened when first needed and closed at the end."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.progress = _show.TerminalProgress(quiet=options.as_json)
        self._failpoint = arm(os.environ)
        self._open = ExitStack()
        self.settings = read_settings(options.env)
        self._config = self.settings.digest  # the demo listens on other ports in every run
        path = state_folder() / self.settings.environment / "log.jsonl"
        self._log = RunLog(path, secrets.token_hex(4), self.progress.say)

    def __enter__(self) -> Self:
        if self.settings.environment == DEMO:
            from .remote.demo import DemoFleet

            self.demo = self._open.enter_context(DemoFleet(self.settings, state_folder() / DEMO))
            self.settings = self.demo.settings
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        self._log.end(exit_code_of(error), error=str(error or ""))
        with suppress(KeyboardInterrupt):  # that ends the waiting for agents that tidy up, and hides no report
            self._open.close()

    def deploy(self, ref: str | None, *, snapshot: bool) -> None:
        """Deploy, show the report, end with its exit code."""
        self._logged("deploy", ref=ref, snapshot=snapshot)
        work = self._releasing(ref, snapshot=snapshot)
        if self.settings.environment == DEMO:
            self._prepare_demo()
        self._say(deploy(work.hands, work), _show.show_report)

    def plan(self, ref: str | None, *, snapshot: bool) -> None:
        """Show what `deploy` would do; change nothing."""
        self._say(plan_deploy(self._releasing(ref, snapshot=snapshot), self.options.words()), show_plan)

    def plan_rollback(self, to: str | None) -> None:
        """Show what `rollback` would do; change nothing."""
        self._say(plan_rollback(self._hands(), to, self.options.words(), lambda: self._source), show_plan)

    def rollback(self, to: str | None) -> None:
        """Roll back, show the report, end with its exit code."""
        self._logged("rollback", to=to)
        self._say(rollback(self._hands(), to), _show.show_report)

    def status(self, *, live: bool) -> None:
        """Show what is live where: as the ledger knows it, or as the targets say."""
        found = status(self._hands()) if live else self._reader.status([host.name for host in self._selected])
        self._say(found, _show.show_status)

    def tell(self, told: Callable[[Reader], Told]) -> None:
        """Show what the ledger tells."""
        self._say(told(self._reader), _show.show_told)

    def lock(self) -> None:
        """Freeze the environment."""
        self._logged("lock")
        self._say(lock(self._hands()), _show.show_told)

    def unlock(self) -> None:
        """End a freeze, or break a lock."""
        self._logged("unlock")
        self._say(unlock(self._hands()), _show.show_told)

    def check(self) -> None:
        """Show what would keep a deploy from working."""
        self._say(check(self._hands(), self._findings_here()), _show.show_check)

    def setup(self, asked: Asked) -> None:
        """Prepare mirrors, targets and keys, and show what was changed."""
        self._logged("setup")
        logins = Logins(self.settings, self._connector, self._fleet, self._selected, asked)
        setting_up = logins.setting_up(self._hands(), self._targets, self._mirror_fleet, lambda: self._source)
        self._show_lines(setting_up.run())

    def adopt(self, *, undo: bool, plan: bool, gap: bool) -> None:
        """Make what targets serve already their first release, or give it back, and show what was done."""
        if not plan:
            self._logged("adopt", undo=undo)
        self._show_lines(adopt(self._hands(), undo=undo, plan=plan, gap=gap))

    def pin(self, file: str | None, *, go_on: bool) -> None:
        """List host keys that are not pinned, or pin those that ``file`` names; end here unless all is well."""
        if file:
            self._logged("setup", trust=file)
        found = pinned(self.settings, self._selected, file)
        if not go_on or found.exit_code:
            self._show_lines(found)
        elif found.added:
            for line in found.lines():
                self.progress.say(line)

    def _logged(self, command: str, **asked: object) -> None:
        """Begin the log of a command that changes something."""
        about = {"environment": self.settings.environment, "config": self._config, "by": operator()}
        self._log.begin(command, **about, options=self.options.words(), **asked)

    def _say(self, found: F, show: Callable[[F], None]) -> None:
        self._log.write("report", report=found.as_json())
        if self.options.as_json:
            _show.show_json(found.as_json())
        else:
            show(found)
        self._exit(found.exit_code)

    def _show_lines(self, found: _show.Lined) -> None:
        self._say(found, lambda found: _show.show_lines(found.lines()))

    def check_mirrors(self) -> None:
        """Show what every mirror has and lacks."""
        self._show_lines(check_mirrors(self._hands(), self._mirrors))

    def sync_mirrors(self, origin: str | None, keep: int) -> None:
        """Bring all mirrors level and, with ``keep``, retire old releases."""
        self._logged("mirrors.sync", origin=origin, keep=keep)
        self._show_lines(sync_mirrors(self._hands(), self._mirrors, origin, keep))

    def _prepare_demo(self) -> None:
        """Make the demo's mirrors and, the first time, release its first version: there must be one to go back to."""
        self._mirrors.make()
        if not self._source.tags():
            self.progress.say("the demo's first version:")
            work = self._releasing(self.demo.first_version, snapshot=False)
            first = deploy(work.hands, work)
            if first.exit_code:
                self._say(first, _show.show_report)
            self.progress.say("the demo's second version:")

    def _releasing(self, ref: str | None, *, snapshot: bool) -> Releasing:
        if ref is not None and snapshot:
            raise UsageError("--ref and --snapshot exclude each other: a snapshot is what is on disk")
        hands = self._hands()
        crew = LocalCrew(self.settings, self._mirror_fleet, self._connector, cache_folder() / "swarm")
        swarm = swarming(hands, self._open.enter_context(crew))
        return Releasing(hands, self._source, self._mirrors, ref, snapshot, swarm=swarm)

    def _exit(self, code: int) -> None:
        if code:
            raise Exit(code=code)

    def _hands(self) -> Hands:
        settings, options = self.settings, self.options
        return Hands(
            settings=settings,
            hosts=self._selected,
            fleet=self._targets,
            progress=LoggedProgress(self.progress, self._log),
            transport=choose(options.transport, settings, self._selected, lambda: self._source),
            policy=policy(settings, options.fail_limit),
            now=lambda: datetime.now(UTC),
            elapsed=time.monotonic,
            shield=partial(Shield, self.progress.say),
            failpoint=failpoint,
            nonce=secrets.token_hex(4),
            by=operator(),
            book=self._book,
            reason=printable(options.reason),
            config=self._config,
            wait_s=options.wait,
            new_hosts=options.new_hosts,
            lost_records=options.lost_records,
        )

    @cached_property
    def _selected(self) -> tuple[Host, ...]:
        only = self.options.only
        return select(self.settings.hosts, only) if only is not None else self.settings.hosts

    @cached_property
    def _connector(self) -> Connector:
        connector = Connector(self.settings.ssh)
        self._open.callback(connector.close)
        return connector

    @cached_property
    def _targets(self) -> Fleet:
        settings = self.settings
        where = {
            "deploy_to": settings.targets.deploy_to,
            "link": settings.targets.link,
            "environment": settings.environment,
        }
        return self._fleet(self._selected, where, settings.targets.become)

    @cached_property
    def _mirrors(self) -> MirrorSet:
        return MirrorSet(self.settings, self._mirror_fleet, lambda: self._source)

    @cached_property
    def _book(self) -> Book:
        state = state_folder() / DEMO if self.settings.environment == DEMO else state_folder()
        return open_book(
            self.settings,
            self._mirrors,
            self._open.enter_context,
            state / "ledger",
            cache_folder(),
            operator(),
            anew=self.options.lost_records,
        )

    @property
    def _reader(self) -> Reader:
        settings = self.settings
        hosts = tuple(host.name for host in settings.hosts)
        return Reader(settings.environment, settings.mirrors[0].name, hosts, self._book, time.time)

    @cached_property
    def _mirror_fleet(self) -> Fleet:
        return self._fleet([mirror.server for mirror in self.settings.mirrors if mirror.server], {}, None)

    @cached_property
    def _source(self) -> Source:
        return self._open.enter_context(choose_source(self.settings, lambda host: self._fleet([host], {}, None)))

    def _fleet(
        self,
        hosts: Iterable[Host],
        where: Mapping[str, object],
        become: str | None,
        owning: Mapping[str, Request] | None = None,
    ) -> Fleet:
        kind = Fleet if owning is None else partial(OwningFleet, owning=owning)
        return self._open.enter_context(
            kind(
                self._connector,
                hosts,
                where={**where, "who": operator()},
                width=self.settings.ssh.connections,
                become=become,
                failpoint=self._failpoint,
                told=self._log.asked,
            )
        )

    def _findings_here(self) -> tuple[Finding, ...]:
        try:
            self._source.tree_of(self._source.resolve(None))
            source = Finding(what="source", ok=True, message="can be released")
        except RepositoryError as error:
            source = Finding(what="source", ok=False, message=str(error))
        return (source, *self._mirrors.findings())
