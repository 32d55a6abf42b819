"""How a plan is shown: what would be live, then one paragraph for all hosts that serve the same now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ._show import show_lines
from .core.facts import Difference
from .core.hosts import fold
from .core.plan import INLINE, MIRROR, SWARM, Commits, Group, Plan, Way
from .core.release import Release
from .core.text import printable, size

SIGNS = {"added": "+", "changed": "~", "removed": "-"}


def show_plan(plan: Plan) -> None:
    """Print a plan; the few that matter first, and last what to type next."""
    show_lines(lines(plan))


def lines(plan: Plan) -> Iterator[str]:
    """Say it for people."""
    for one in plan.failed:
        yield f"{one.host}: {one.state.value}: {printable(one.reason, 500)}"
    if isinstance(plan.release, Release):
        release, made = plan.release, "made by the deploy, whose time its id will have"
        called = f"{release.number}, {made}," if plan.is_new else release.id
        yield f"release {called} of commit {release.source_commit}"
    for group in plan.groups:
        yield from _group(group)
    if plan.already:
        yield f"{_hosts(plan.already)}: served already, left alone"
    for bound in plan.bounds:
        whose = f"group {bound.group}: " if bound.group else ""
        yield f"limit: {whose}fail_limit = {bound.limit} lets {bound.allowed} of {bound.size} targets fail"
    yield from (f"note: {printable(note, 600)}" for note in plan.notes)
    if plan.turn is not None:
        about = "about " if plan.is_estimate else ""
        seconds = "".join(f", about {each:.1f} s by {by}" for by, each in plan.predicted_s.items())
        yield f"turn {plan.turn}; {about}{size(plan.bytes)} to move to targets{seconds}"
    yield f"{plan.headline}; nothing was changed" if plan.groups else plan.headline
    if plan.next_step:
        yield f"next: {plan.next_step}"


def _group(group: Group) -> Iterator[str]:
    yield f"{_hosts(group.hosts)}: {f'now {group.live}' if group.live else 'nothing is live yet'}"
    yield from _commits(group)
    yield from _files(group.files)
    for way, hosts in group.ways:
        yield f"  bytes: {_way(way)}{_which(hosts, group)}"
    for identities, hosts in group.pruned:
        yield f"  prune: {', '.join(identities)}{_which(hosts, group)}"


def _commits(group: Group) -> Iterator[str]:
    match group.commits:
        case Commits(ahead, behind, subjects):
            yield f"  commits: {ahead} to come" + (f", {behind} to go" if behind else "")
            yield from (f"    {printable(subject, 100)}" for subject in subjects)
            yield from _more(ahead - len(subjects))
        case None if group.live:
            yield "  commits: not known here"


def _files(files: Difference | None) -> Iterator[str]:
    if files is None:
        yield "  files: not known here"
        return
    yield f"  files: {', '.join(f'{files.counts[kind]} {kind}' for kind in SIGNS)}"
    for kind, sign in SIGNS.items():
        names = files.names[kind]
        yield from (f"    {sign} {printable(name, 200)}" for name in names)
        yield from _more(files.counts[kind] - len(names), kind)


def _more(count: int, what: str = "") -> Iterator[str]:
    if count > 0:
        yield " ".join(("    and", str(count), "more", what)).rstrip()


def _way(way: Way) -> str:
    why = printable(way.why, 200)
    if way.by == INLINE:
        return f"{size(way.bytes or 0)} each over the open session ({why})"
    if way.by == SWARM:
        return f"{size(way.bytes or 0)} each from each other ({why})"
    if way.by == MIRROR:
        each = "an unknown number each" if way.bytes is None else f"an estimated {size(way.bytes)} each"
        return f"{each} from {', else '.join(way.mirrors) or 'no mirror'} ({why})"
    return f"none, {why}"


def _which(hosts: Sequence[str], group: Group) -> str:
    return "" if len(hosts) == len(group.hosts) else f" on {fold(hosts)}"


def _hosts(hosts: Sequence[str]) -> str:
    return f"{fold(hosts)} ({len(hosts)})" if len(hosts) > 1 else hosts[0]
