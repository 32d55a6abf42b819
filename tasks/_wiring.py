"""The wiring of one command: what it opens - connections, fleets, mirrors, source, ledger - when first needed."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Self

from . import _show
from ._choices import choose, policy, swarming
from ._cli import Options, exit_code_of, state_folder
from ._here import cache_folder, operator, read_settings
from ._sources import choose_source
from .core.errors import UsageError
from .core.hosts import Host, select
from .core.requests import Request
from .core.text import printable
from .flows.hands import Hands
from .flows.reading import Reader
from .flows.releasing import Releasing
from .remote.book import open_book
from .remote.crew import LocalCrew
from .remote.failpoints import arm, failpoint
from .remote.fleet import Fleet
from .remote.interrupts import Shield, listen
from .remote.ledger import Book
from .remote.mirrorset import MirrorSet
from .remote.owning import OwningFleet
from .remote.run_log import LoggedProgress, RunLog
from .remote.source import Source
from .remote.ssh import Connector

DEMO = "demo"


class Wiring:
    """A resource: all that is opened on the way is closed at the end, the last first."""

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
        listen()
        if self.settings.environment == DEMO:
            from .remote.demo import DemoFleet

            self.demo = self._open.enter_context(DemoFleet(self.settings, state_folder() / DEMO))
            self.settings = self.demo.settings
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        self._log.end(exit_code_of(error), error=str(error or ""))
        with suppress(KeyboardInterrupt):  # that ends the waiting for agents that tidy up, and hides no report
            self._open.close()

    def _releasing(self, ref: str | None, *, snapshot: bool) -> Releasing:
        if ref is not None and snapshot:
            raise UsageError("--ref and --snapshot exclude each other: a snapshot is what is on disk")
        hands = self._hands()
        crew = LocalCrew(self.settings, self._mirror_fleet, self._connector, cache_folder() / "swarm")
        swarm = swarming(hands, self._open.enter_context(crew))
        return Releasing(hands, self._source, self._mirrors, ref, snapshot, swarm=swarm)

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
