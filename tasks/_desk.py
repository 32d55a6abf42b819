"""The desk: each command's one flow, and how its end is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from invoke.exceptions import Exit

from . import _show
from ._cli import Asked
from ._here import cache_folder, operator
from ._setting_up import Logins, pinned
from ._show_plan import show_plan
from ._wiring import DEMO, Wiring
from .core.errors import RepositoryError
from .core.facts import Finding
from .core.told import Told
from .flows.adopt import adopt
from .flows.check import check
from .flows.deploy import deploy
from .flows.locking import lock, unlock
from .flows.mirrors import check_mirrors, sync_mirrors
from .flows.plan import plan_deploy, plan_rollback
from .flows.reading import Reader
from .flows.rollback import rollback
from .flows.status import status

F = TypeVar("F", bound=_show.Found)


class Desk(Wiring):
    """What each command does: log that it begins, run its flow, show the end, leave with its exit code."""

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
        logins = Logins(self.settings, self._connector, self._fleet, self._selected, asked, cache_folder())
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

    def _exit(self, code: int) -> None:
        if code:
            raise Exit(code=code)

    def _findings_here(self) -> tuple[Finding, ...]:
        try:
            self._source.tree_of(self._source.resolve(None))
            source = Finding(what="source", ok=True, message="can be released")
        except RepositoryError as error:
            source = Finding(what="source", ok=False, message=str(error))
        return (source, *self._mirrors.findings())
