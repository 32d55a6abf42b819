"""What `bench` measures: a site, the change that is deployed, and in what condition the fleet is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from .errors import UsageError

BASES = (0.80, 0.95)
"""Up to the first share hosts have the release before, up to the second the one before that, the rest nothing."""
DEAD = 0.05
CHUNK = 65536


@dataclass(frozen=True)
class Scenario:
    """A site of ``files`` files of so many bytes, of which ``changed`` are written anew before every deploy.

    ``text`` is hexadecimal digits, which halve when compressed; else bytes are random. ``rates`` are what each link
    carries each way, by the number of hosts up to which that holds: where it is given, the network is the limit. With
    ``mixed`` the hosts have several bases; with ``trouble`` every step is measured twice, the second time with dead
    hosts and a slow link.
    """

    name: str
    hosts: int
    files: int
    file_bytes: int
    changed: int
    text: bool = True
    rates: Mapping[int, str] = field(default_factory=dict)
    mixed: bool = False
    trouble: bool = False

    def rate(self, hosts: int) -> str | None:
        """Return the rate of the links of so many hosts: above the largest number that is named, the last one's."""
        fitting = [rate for most, rate in self.rates.items() if hosts <= most]
        return fitting[0] if fitting else next(reversed(list(self.rates.values())), None)

    def sized(self, files: int | None, megabytes: int | None, rate: str | None) -> Scenario:
        """Return the scenario with another number of files, bytes to move or rate."""
        chosen = self
        if megabytes is not None:
            count = megabytes * 1_000_000 // CHUNK
            chosen = replace(chosen, files=count, changed=count, file_bytes=CHUNK, text=False)
        if files is not None:
            chosen = replace(chosen, files=files, changed=min(chosen.changed, files))
        if chosen.files < 1:
            raise UsageError(f"--files {files} --megabytes {megabytes}: at least one of each")
        return replace(chosen, rates={1: rate}) if rate else chosen


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("hotfix", 100, 2000, 4096, 3),
        Scenario("patch", 20, 20_000, 2048, 100),
        Scenario("minor", 30, 4000, 8192, 1000),
        Scenario("cold", 30, 80, CHUNK, 80, text=False, rates={30: "10mbit", 100: "4mbit"}),
        Scenario("many-files", 2, 100_000, 1024, 100),
        Scenario("mixed-bases", 40, 2000, 4096, 100, mixed=True),
        Scenario("trouble", 40, 2000, 4096, 100, rates={1: "10mbit"}, trouble=True),
    )
}


def named(name: str) -> Scenario:
    """Return a scenario; raise UsageError where there is none of that name."""
    if name not in SCENARIOS:
        raise UsageError(f"bench {name!r}: story, {', '.join(SCENARIOS)} are what there is")
    return SCENARIOS[name]


def numbers(text: str) -> tuple[int, ...]:
    """Read numbers of hosts such as ``10,30,100``; raise UsageError for anything else."""
    words = text.split(",")
    if not all(word.isascii() and word.isdigit() and 1 <= int(word) <= 500 for word in words):
        raise UsageError(f"--hosts {text!r}: numbers from 1 to 500, with commas between")
    return tuple(map(int, words))


def bases(hosts: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the hosts with the release before, with the one before that, and with nothing; none of them is empty."""
    if len(hosts) < len(BASES) + 1:
        raise UsageError(f"--hosts {len(hosts)}: mixed bases want three at least")
    marks = [min(max(round(len(hosts) * share), at), len(hosts) - 3 + at) for at, share in enumerate(BASES, 1)]
    return list(hosts[: marks[0]]), list(hosts[marks[0] : marks[1]]), list(hosts[marks[1] :])


def troubled(hosts: Sequence[str]) -> tuple[list[str], str]:
    """Return the hosts that die and the one whose link is slow."""
    dead = max(1, round(len(hosts) * DEAD))
    return list(hosts[-dead:]), hosts[0]


@dataclass(frozen=True)
class Course:
    """What one benchmark is asked for; a tool that outlives ``patience_s`` is cut off and not run again."""

    scenario: Scenario
    hosts: tuple[int, ...]
    runs: int
    transports: tuple[str, ...]
    beside: tuple[str, ...]
    fast_source: bool = False
    patience_s: float | None = None

    def tools(self) -> list[str]:
        """Name all that are measured, Skein's carriers first."""
        return [*(f"skein {kind}" for kind in self.transports), *self.beside]
