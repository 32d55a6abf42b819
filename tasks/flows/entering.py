"""What every writer of a ledger does: the lock, what refuses a run, and records appended to whatever is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..core.errors import LockedError, OvertakenError, RepositoryError, UsageError
from ..core.facts import Held
from ..core.history import Chain, who_and_when
from ..core.hosts import fold
from ..core.ledger import Decided, Ended, Reconfigured, Record, fleet_hash, folded, names_of
from ..core.text import printable
from .hands import Hands


def take_lock(hands: Hands) -> None:
    """Take the environment's lock; raise LockedError that says who has it."""
    why = hands.reason
    held = hands.book.hold(why)
    if not held.held and hands.wait_s:
        hands.progress.say(f"waiting up to {hands.wait_s:g} s: {locked_by(held)}")
        held = hands.book.hold(why, hands.wait_s)
    if not held.held:
        raise _locked(hands, held)


def keep_lock(hands: Hands, begun: Chain) -> None:
    """Make sure that the lock is still ours; raise LockedError that says who took it, or wrote meanwhile.

    A session that was lost, as while this machine slept, took the lock with it: where nobody came meanwhile it is
    taken again. Raise RepositoryError where the hub is out of reach.
    """
    try:
        held = hands.book.hold(hands.reason)
        if held.held:
            return
    except RepositoryError:
        held = hands.book.hold(hands.reason)
    _refuse_overtaken(hands, begun, hands.book.read())
    if not held.held:
        raise _locked(hands, held)


def try_lock(hands: Hands) -> list[str]:
    """Take the environment's lock as ``take_lock`` does, where the hub can be asked; return what to say where not."""
    try:
        take_lock(hands)
    except RepositoryError as error:
        return [f"without the environment's lock, for the hub cannot be asked: {error}"]
    return []


def locked_by(held: Held) -> str:
    """Say who has the lock, since when and why."""
    why = f" ({printable(held.why)})" if held.why else ""
    return f"{printable(held.who) or 'somebody'} is at work since {printable(held.since) or 'just now'}{why}"


def _locked(hands: Hands, held: Held) -> LockedError:
    environment = hands.settings.environment
    return LockedError(
        f"{environment} is locked, nothing was changed: {locked_by(held)}; wait with --wait SECONDS (the lock of a "
        f"run that died is gone within 15 s), or break it: fab unlock --env {environment} --reason WHY"
    )


def refuse_frozen(hands: Hands, chain: Chain) -> None:
    """Raise LockedError where somebody froze the environment."""
    if freeze := chain.frozen:
        environment = hands.settings.environment
        raise LockedError(
            f"{environment} is frozen, nothing was changed: by {printable(who_and_when(freeze), 700)}; "
            f"fab unlock --env {environment} ends that"
        )


def refuse_other_hosts(hands: Hands, chain: Chain) -> None:
    """Raise UsageError where the last decision knew other hosts than this configuration does."""
    last, names = last_of_fleet(chain), [host.name for host in hands.settings.hosts]
    if last is None or last.fleet == fleet_hash(names) or hands.new_hosts:
        return
    known = names_of(last.hosts)
    added, gone = set(names) - set(known), set(known) - set(names)
    told = [f"{what}: {fold(hosts)}" for what, hosts in (("added", added), ("gone", gone)) if hosts]
    raise UsageError(
        f"this configuration has other hosts than the last record of the ledger, by {who_and_when(last)} "
        f"({'; '.join(told)}): is it up to date? If that is meant, say --new-hosts"
    )


def append(hands: Hands, begun: Chain, make: Callable[[Chain], Sequence[Record]], *, freely: bool = False) -> Chain:
    """Append what ``make`` makes of the ledger as it is; where somebody was quicker, look again and make it anew.

    Unless ``freely``, what others decided, froze or broke since ``begun`` ends it: LockedError.
    """
    chain = begun
    while True:
        try:
            return hands.book.append(chain, make(chain))
        except OvertakenError:
            chain = hands.book.read()
            if not freely:
                _refuse_overtaken(hands, begun, chain)


def enter_waiting(hands: Hands, chain: Chain) -> Chain:
    """Append the records that came to be here without the hub, once each."""
    waiting = hands.book.remembered().waiting

    def made(chain: Chain) -> list[Record]:
        there = {(record.kind, record.decision) for record in chain.records if isinstance(record, Decided | Ended)}
        new = [one for one in waiting if isinstance(one, Decided | Ended) and (one.kind, one.decision) not in there]
        return [
            one.model_copy(update={"number": chain.number + place, "late": True}) for place, one in enumerate(new, 1)
        ]

    if not waiting:
        return chain
    longer = append(hands, chain, made, freely=True) if made(chain) else chain
    hands.book.drop(waiting)
    return longer


def entry(hands: Hands, number: int, turn: int) -> dict[str, object]:
    """Return what every record of this run says."""
    by, _, machine = hands.by.rpartition("@")
    names = [host.name for host in hands.settings.hosts]
    return {
        "number": number,
        "turn": turn,
        "environment": hands.settings.environment,
        "at": hands.now().replace(microsecond=0),
        "by": by,
        "machine": machine,
        "reason": hands.reason,
        "config": hands.config_digest,
        "hosts": folded(names),
        "fleet": fleet_hash(names),
    }


def last_of_fleet(chain: Chain) -> Decided | Reconfigured | None:
    """Return the newest record that settled which hosts the environment has."""
    return next((record for record in chain.records if isinstance(record, Decided | Reconfigured)), None)


def reconfigured(hands: Hands, chain: Chain, last: Decided | Reconfigured) -> Reconfigured:
    """Return the record of another configuration."""
    names, known = {host.name for host in hands.settings.hosts}, set(names_of(last.hosts))
    fields = {"was": last.config, "added": folded(names - known), "gone": folded(known - names)}
    return Reconfigured.model_validate({**entry(hands, chain.number + 1, chain.turn), **fields})


def _refuse_overtaken(hands: Hands, begun: Chain, chain: Chain) -> None:
    refuse_frozen(hands, chain)
    if broken := chain.broken_since(begun.number):
        raise LockedError(f"nothing was changed: our lock was broken by {printable(who_and_when(broken), 700)}")
    others = [record for record in chain.records if isinstance(record, Decided) and record.number > begun.number]
    if others:
        raise LockedError(
            f"nothing was changed: {printable(who_and_when(others[0]), 700)} decided meanwhile; run again"
        )
