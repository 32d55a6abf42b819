"""What the deployer asks of an agent: requests as values, made here and carried elsewhere."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from .config_models import TargetsConfig
from .release import Adopted, Release

QUICK_S = 30.0
"""Deadline of a request that only looks or renames; the agent may first wait 20 s for the host's lock."""


@dataclass(frozen=True)
class Request:
    """One verb and its fields, how many seconds the answer may take, and bytes that go with it."""

    verb: str
    fields: Mapping[str, object] = field(default_factory=dict)
    timeout_s: float = QUICK_S
    payload: bytes = b""

    def line(self, number: int) -> bytes:
        """Return the line that asks it as the session's n-th; the payload that it announces follows as it is."""
        message: dict[str, object] = {"id": number, "verb": self.verb, "with": dict(self.fields)}
        if self.payload:
            message["payload"] = {"bytes": len(self.payload), "sha256": sha256(self.payload).hexdigest()}
        return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


@dataclass(frozen=True)
class MirrorUrl:
    """A mirror as one target sees it; the lowest ``rank`` is asked first."""

    name: str
    url: str
    rank: int


@dataclass(frozen=True)
class Delta:
    """A thin pack that makes a release of a base, the ref of another release; or of nothing, where that is empty."""

    base: str
    base_commit: str
    pack: bytes


@dataclass(frozen=True)
class Decision:
    """A flip that was decided: its turn fences off every older one, its name tells two of one turn apart."""

    turn: int
    name: str
    kind: str  # "deploy" or "rollback"
    by: str
    reason: str
    ledger: Mapping[str, object] | None = None  # {"head", "number"}: the record of this decision, where there is one


def fetch(
    release: Release,
    mirrors: Sequence[MirrorUrl],
    timeout_s: float,
    spread_s: float = 0.0,
    delta: Delta | None = None,
    swarm: str | None = None,
) -> Request:
    """Ask for the release commit to be brought from ``delta``, or else from the first mirror that can give it.

    The target first waits a random share of ``spread_s``, so that a mirror's sshd is not overrun. The delta rides on
    the session, or comes by the ``swarm`` of that name, which the target has joined.
    """
    listed = [{"name": mirror.name, "url": mirror.url, "rank": mirror.rank} for mirror in mirrors]
    fields = {"commit": release.commit, "ref": release.ref, "mirrors": listed, "timeout_s": timeout_s}
    fields |= {"spread_s": spread_s} if spread_s else {}
    fields |= {"base": delta.base, "base_commit": delta.base_commit} if delta else {}
    fields |= {"swarm": {"name": swarm, "timeout_s": timeout_s}} if swarm else {}
    seconds = timeout_s * max(1, len(mirrors)) + spread_s + QUICK_S + (timeout_s if swarm else 0.0)
    return Request("fetch", fields, seconds, delta.pack if delta and not swarm else b"")


def adoption(linked_dirs: Sequence[str], linked_files: Sequence[str], *, undo: bool) -> Request:
    """Ask what adopting, or with ``undo`` giving back, would do; the linked paths are looked for in what is there."""
    return Request("adoption", {"linked_dirs": list(linked_dirs), "linked_files": list(linked_files), "undo": undo})


def adopt(release_id: str, by: str, reason: str, *, gap: bool) -> Request:
    """Ask for what stands at the link's path to become a release, in one step unless ``gap`` allows two."""
    return Request("adopt", {"id": release_id, "by": by, "reason": reason, "gap": gap})


def give_back(*, gap: bool) -> Request:
    """Ask for what was adopted to be given back."""
    return Request("give_back", {"gap": gap})


def stage_adopted(release: Adopted) -> Request:
    """Ask whether a release that was adopted is there; where it is not, it cannot be had."""
    return Request("stage", {"id": release.id})


def stage(release: Release, targets: TargetsConfig) -> Request:
    """Ask for the release directory to be made and checked, or checked again where it stands already."""
    timeout_s, reuse_after = targets.stage_timeout, targets.reuse_after
    fields = {
        "id": release.id,
        "number": release.number,
        "commit": release.commit,
        "source_commit": release.source_commit,
        "tree": release.tree,
        "linked_dirs": list(targets.linked_dirs),
        "linked_files": list(targets.linked_files),
        "reuse_after": None if reuse_after == "never" else reuse_after,
        "full": targets.verify == "full",
        "timeout_s": timeout_s,
    }
    return Request("stage", fields, timeout_s * 2 + QUICK_S)


def foresee(bring: Request, release_id: str, kind: str, targets: TargetsConfig) -> Request:
    """Ask what ``bring``, staging, a flip of this kind and ``prune`` would do; the delta of ``bring`` stays here."""
    fields = {
        **bring.fields,
        "carries": bool(bring.payload),
        "id": release_id,
        "kind": kind,
        "linked_dirs": list(targets.linked_dirs),
        "linked_files": list(targets.linked_files),
        "keep": targets.keep,
    }
    return Request("foresee", fields, 4 * QUICK_S)


def arm(release_id: str) -> Request:
    """Ask for the link to be laid ready."""
    return Request("arm", {"id": release_id})


def flip(release_id: str, expect: str | None, decision: Decision) -> Request:
    """Ask for the rename, on the conditions that make a late or repeated order harmless."""
    fields: dict[str, object] = {
        "id": release_id,
        "expect": expect,
        "turn": decision.turn,
        "decision": decision.name,
        "kind": decision.kind,
        "by": decision.by,
        "reason": decision.reason,
    }
    fields |= {"ledger": decision.ledger} if decision.ledger else {}
    return Request("flip", fields)


def confirm(decision: Decision) -> Request:
    """Ask for the flip to be written into the host's history."""
    return Request("confirm", {"decision": decision.name})


def revert(decision: Decision) -> Request:
    """Ask for an unconfirmed flip to be undone."""
    return Request("revert", {"decision": decision.name})


def after_flip(command: Sequence[str], timeout_s: float) -> Request:
    """Ask for the operator's command to be run in the live release."""
    return Request("after_flip", {"command": list(command), "timeout_s": timeout_s}, timeout_s + QUICK_S)


def prepare(comment: str | None, pins: Sequence[str], policy: Mapping[str, object] | None) -> Request:
    """Ask for all that a deploy needs; see ``agent.prepare.prepare``."""
    return Request("prepare", {"comment": comment, "pins": list(pins), "policy": policy}, 3 * QUICK_S)


def share(files: Mapping[str, bytes], *, replace: bool) -> Request:
    """Ask for linked files to be placed below ``shared``."""
    encoded = {path: b64encode(content).decode("ascii") for path, content in files.items()}
    return Request("share", {"files": encoded, "replace": replace})


def prune(targets: TargetsConfig) -> Request:
    """Ask for old releases to go, the last of them to where the next one can be made of it."""
    return Request("prune", {"keep": targets.keep, "spare": targets.reuse_after != "never"}, 300.0)


def admit_gate(keys: Mapping[str, object], *, gate: str, interpreter: str, home: str, become: str | None) -> Request:
    """Ask for keys to be let in at the gate of one app alone; ``keys`` are the fields of ``agent.keys.admit``."""
    fields = {**keys, "gate": gate, "interpreter": interpreter, "home": home, "become": become}
    return Request("admit_gate", fields)
