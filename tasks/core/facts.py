"""What agents answer, checked: a host's words are data and may be wrong or hostile."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from .release import ID, OBJECT_ID, Release

Identity = Annotated[str, StringConstraints(pattern=f"^(?:{ID.pattern})$")]
ObjectId = Annotated[str, StringConstraints(pattern=f"^(?:{OBJECT_ID.pattern})$")]
Text = Annotated[str, StringConstraints(max_length=4000)]
Address = Annotated[str, AfterValidator(lambda text: str(ip_address(text)))]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Seconds = Annotated[float, Field(ge=0, lt=1 << 31, allow_inf_nan=False)]
Moment = Annotated[float, Field(ge=0, lt=1 << 37, allow_inf_nan=False)]
"""Seconds since 1970, by the host's own clock; what lies beyond the year 6300 is no clock's."""


class Fact(BaseModel):
    """Frozen; fields that a newer agent adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Trouble(Fact):
    """Something on the host that would stop a deploy."""

    code: Text
    message: Text


class Present(Fact):
    """A release that stands on the host."""

    commit: ObjectId
    source_commit: ObjectId
    tree: ObjectId
    number: Count

    def release(self, environment: str, identity: str) -> Release:
        """Return it as a release of ``environment``."""
        return Release(identity, self.number, environment, self.source_commit, self.commit, self.tree)


class SeenLedger(Fact):
    """The end of the ledger that a host was told of with its newest flip."""

    head: ObjectId
    number: Count


class Probe(Fact):
    """What a host is and has. ``offset_s`` is its clock minus ours; ``stack`` what rollbacks visit, live one last."""

    current: Identity | None
    current_since: Moment | None
    stack: tuple[Identity, ...]
    turn: Count
    live_turn: Count = 0  # the turn at which what is live became so
    chosen: dict[Identity, Count] = {}  # the turn at which each release here was last made live
    left: dict[Identity, Count] = {}  # the turn at which a rollback last left it for an older one
    ledger: SeenLedger | None = None
    releases: dict[Identity, Present]
    adopted: dict[Identity, Text] = {}  # releases without a commit: what was here before Skein, in words
    free_bytes: Count
    free_inodes: Count
    clock: Moment
    offset_s: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    python: Text
    git: Text | None
    problems: tuple[Trouble, ...]
    place: Text | None = None  # the same for two hosts that are one
    unsettled: bool = False  # a killed run left something: private files, or a flip that nobody confirmed
    drift: tuple[Text, ...] = ()

    @property
    def live(self) -> Present | None:
        """The live release, where the host has its manifest."""
        return self.releases.get(self.current) if self.current else None


class Adoption(Fact):
    """What adopting, or giving back, would do on a host; ``adopted`` are the ids of what was adopted there before."""

    due: bool
    told: Text
    notes: tuple[Text, ...] = ()
    adopted: tuple[Identity, ...] = ()
    unsettled: bool = False


class Skipped(Fact):
    """A mirror that a target passed over."""

    mirror: Text
    reason: Text


class Staged(Fact):
    """The release stands on the host, checked. ``source`` is the mirror that gave it, None where no bytes moved."""

    source: Text | None = Field(default=None, alias="from")
    skipped: tuple[Skipped, ...] = ()
    swarm_s: Seconds | None = None  # since the swarm's go until all had come, where it brought it
    made: bool
    files: Count
    took: Mapping[str, tuple[float, float]] = {}  # by verb, when it was asked and answered, by one clock of ours


class Foreseen(Fact):
    """How a host would come by a release, and what it would then prune: see ``agent.foresee``."""

    here: bool
    inline: bool
    restricted: bool
    mirrors: tuple[Text, ...]
    pruned: tuple[Identity, ...]


class Flipped(Fact):
    """The host's own clock, seconds since 1970, when the rename had happened."""

    at: Moment


class Reverted(Fact):
    """What is live after a flip was undone."""

    current: Identity | None


class Pruned(Fact):
    """What prune removed."""

    removed: tuple[Identity, ...]


class Changed(Fact):
    """What set-up changed."""

    changed: tuple[Text, ...]


class Finding(Fact):
    """One precondition and whether it holds."""

    what: Text
    ok: bool
    message: Text


class MirrorState(Fact):
    """What a look at a mirror from inside found."""

    findings: tuple[Finding, ...]
    free_bytes: Count
    free_inodes: Count


class Lent(Fact):
    """Where the source's repository is on its machine, its work tree if any, and what releases are made in."""

    git_dir: Text
    work_tree: Text | None
    private: Text


class Retained(Fact):
    """The refs that a mirror dropped."""

    removed: tuple[Text, ...]


class Held(Fact):
    """Whether the environment's lock is ours, and what its holder wrote of himself."""

    held: bool
    who: Text
    since: Text
    why: Text


class BrokenHold(Fact):
    """Whether a lock was taken from somebody, and what he wrote of himself."""

    broken: bool
    who: Text
    since: Text
    why: Text


class Joined(Fact):
    """Where a host's part in a swarm listens; without an address, that by which the host is reached."""

    port: Annotated[int, Field(ge=1, le=65535)]
    address: Address | None = None


class LibraryKind(Fact):
    """Which libtorrent fits a host, and why it can take no part in a swarm as it is, if it cannot."""

    python: Annotated[str, StringConstraints(pattern=r"^(?:3\.[0-9]{1,2})?$")]
    machine: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,20}$")]
    libc: Annotated[str, StringConstraints(pattern=r"^[a-z]{0,20} [0-9.]{0,20}$")]
    why: Text

    @property
    def same(self) -> LibraryKind:
        """What all hosts have in common that the same wheel fits."""
        return self.model_copy(update={"why": ""})


class Moved(Fact):
    """The bytes that a host's part in a swarm moved."""

    sent: Count
    received: Count


class Difference(Fact):
    """What files differ between two releases: counts by kind, and the first names of each."""

    counts: dict[Text, Count]
    names: dict[Text, tuple[Text, ...]]


class Synced(Fact):
    """What a mirror was brought, what stands there for another object, and what it has besides: refs."""

    brought: tuple[Text, ...]
    differs: tuple[Text, ...] = ()
    extra: tuple[Text, ...] = ()


class Checked(Fact):
    """Every precondition of one host. ``offset_s`` is that of a probe before: a check takes too long to tell it."""

    findings: tuple[Finding, ...]
    probe: Probe
    offset_s: Annotated[float, Field(allow_inf_nan=False)]


class Done(Fact):
    """An answer that says nothing but that it was done."""


PublicKey = Annotated[str, StringConstraints(pattern=r"^ssh-ed25519 [A-Za-z0-9+/]{68}$")]


Mark = Annotated[str, StringConstraints(pattern=r"^skein(?:-gate)?:[A-Za-z0-9._:-]{1,300}$")]
"""What names a line of ours in an authorized_keys; behind its last colon stands the host, or the key's short name."""


class Owned(Fact):
    """What root gave to the user that it then became."""

    owned: tuple[Text, ...]


class Prepared(Probe):
    """What set-up changed on a target, and what others need of it; ``public`` is the half of its key for mirrors."""

    changed: tuple[Text, ...]
    shared: tuple[Text, ...] = ()
    public: PublicKey | None = None
    gate: Text
    interpreter: Text


class Admitted(Fact):
    """What became of lines in an authorized_keys: see ``agent.keys.admit``."""

    lines: tuple[Text, ...]
    added: tuple[Mark, ...] = ()
    replaced: tuple[Mark, ...] = ()
    removed: tuple[Mark, ...] = ()
    left: tuple[Mark, ...] = ()
    taken: tuple[Mark, ...] = ()
    rivals: dict[Mark, Mark] = {}
