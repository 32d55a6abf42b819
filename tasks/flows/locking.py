"""`fab lock` and `fab unlock`: an environment that nothing is deployed to until somebody says so."""

from __future__ import annotations

from collections.abc import Callable

from ..core.errors import LockedError, UsageError
from ..core.facts import Held
from ..core.history import Chain, who_and_when
from ..core.ledger import Broken, Frozen, Record, Thawed
from ..core.text import printable
from ..core.told import Told
from .entering import append, enter_waiting, entry, locked_by, refuse_frozen, take_lock
from .hands import Hands


def lock(hands: Hands) -> Told:
    """Freeze the environment: once no run is under way, all deploys and rollbacks are refused until it is unlocked.

    Raise UsageError without a reason, LockedError where somebody is at work or it is frozen already.
    """
    environment = hands.settings.environment
    if not hands.reason:
        raise UsageError("say why with --reason: it is what everybody is told who is refused")
    take_lock(hands)
    chain = enter_waiting(hands, hands.book.read())
    refuse_frozen(hands, chain)
    chain = append(hands, chain, _making(hands, Frozen))
    notes = _end(hands, chain)
    said = f"{environment} is frozen: deploys and rollbacks are refused until fab unlock --env {environment}"
    return Told("lock", environment, (*notes, said), document={"frozen": True, "reason": hands.reason})


def unlock(hands: Hands) -> Told:
    """End a freeze, and take the lock from a run that hangs, which needs a reason; both are recorded.

    The run that had the lock can decide nothing any more, and what it decided before is below the turn taken here.
    Raise LockedError, which says who has the lock, where somebody has it and no reason was given.
    """
    environment, done = hands.settings.environment, list[str]()
    held = hands.book.hold(hands.reason)
    if not held.held and not hands.reason:
        raise LockedError(f"{locked_by(held)}: to break that lock say why with --reason")
    chain = None
    if not held.held:
        hands.book.break_hold()
        take_lock(hands)
        chain = append(hands, hands.book.read(), lambda chain: [_broken(hands, chain, held)], freely=True)
        done.append(f"broke the lock: {locked_by(held)}")
    chain = enter_waiting(hands, chain or hands.book.read())
    if freeze := chain.frozen:
        chain = append(hands, chain, _making(hands, Thawed), freely=True)
        done.append(f"ended the freeze by {printable(who_and_when(freeze), 700)}")
    notes = _end(hands, chain)
    said = done or [f"nothing to unlock: {environment} is neither frozen nor locked"]
    return Told("unlock", environment, (*notes, *said), document={"done": done})


def _making(hands: Hands, kind: type[Frozen | Thawed]) -> Callable[[Chain], list[Record]]:
    return lambda chain: [kind.model_validate(entry(hands, chain.number + 1, chain.turn))]


def _broken(hands: Hands, chain: Chain, held: Held) -> Broken:
    fields = {"holder": printable(held.who), "since": printable(held.since)}
    return Broken.model_validate({**entry(hands, chain.number + 1, chain.turn + 1), **fields})


def _end(hands: Hands, chain: Chain) -> list[str]:
    lagging = hands.book.spread(chain)
    hands.book.let_go()
    return [f"mirror {name} did not take the ledger: {error}" for name, error in lagging.items()]
