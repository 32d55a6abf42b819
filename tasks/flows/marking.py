"""What a run says of releases that are marked bad: see ``core.marks``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..core.facts import Probe
from ..core.history import Chain, who_and_when
from ..core.marks import Marks, seen_by
from ..core.release import Adopted, Release
from ..core.text import printable


def known_marks(chain: Chain | None, probes: Mapping[str, Probe]) -> Marks:
    """Return what the ledger, where it can be had, and the targets know."""
    return (chain.marks if chain else Marks()) | seen_by(probes.values())


def told_bad(chain: Chain | None, release: str) -> str:
    """Say who left a release, where that is known."""
    rollback = chain.left_by(release) if chain else None
    by = f"the rollback by {printable(who_and_when(rollback), 700)}" if rollback else "a rollback"
    return f"{release} is marked bad: {by} left it"


def passed_over(chain: Chain | None, releases: Iterable[str]) -> list[str]:
    """Say which releases a rollback does not go back to by itself."""
    return [f"passed over: {told_bad(chain, each)}; --to {each} goes there all the same" for each in releases]


def warned(chain: Chain | None, probes: Mapping[str, Probe], release: Release | Adopted) -> list[str]:
    """Say that what is to become live is marked bad, or is of the very commit of a release that is.

    To choose it again takes the mark away, so one of that commit that was chosen since silences the others.
    """
    marks = known_marks(chain, probes)
    same = {release.id, *(_of_commit(chain, probes, release.source_commit) if isinstance(release, Release) else ())}
    bad = sorted(same & marks.bad)
    newest = max((marks.left[each] for each in bad), default=0)
    if not bad or any(marks.chosen.get(each, 0) > newest for each in same):
        return []
    is_it = release.id in bad
    what = "to make it live takes that mark away" if is_it else f"{release.id} is of the same commit"
    return [f"{told_bad(chain, release.id if is_it else bad[-1])}; {what}"]


def _of_commit(chain: Chain | None, probes: Mapping[str, Probe], commit: str) -> set[str]:
    decided = {one.release for one in chain.decisions if one.source_commit == commit} if chain else set()
    there = (item for probe in probes.values() for item in probe.releases.items())
    return decided | {identity for identity, each in there if each.source_commit == commit}
