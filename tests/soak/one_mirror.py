"""A laptop that reaches one mirror alone, with the hub and all targets cut off, and shows what server-1 shows."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from lab_operator import Operator, open_server, small_site
from tally import Tally

from tasks.remote.lab import Lab

SAME = ("desired", "targets", "records", "releases", "decisions", "counts", "names", "from", "to", "exit_code")
MOST_S = 2.0


def one_mirror(lab: Lab, tally: Tally, times: int = 5, most_s: float = MOST_S) -> None:
    """Ask everything on server-1, cut the hub and the targets off, and ask the same on the laptop, so many times."""
    site = small_site(lab, "/srv/one")
    open_server(lab)
    here, there = (
        Operator(lab, "one", "/srv/one", machine, groups={"web": {"hosts": lab.targets}}) for machine in lab.operators
    )
    here.fab("setup")
    here.deploy()
    site.change({"index.html": b"second\n", "new.html": b"new\n"})
    here.deploy("--reason", "new")
    site.change({"index.html": b"third\n"})
    here.deploy("--only", lab.targets[0])
    asked = (("status",), ("log",), ("releases",), ("diff", "1", "2"), ("history", lab.targets[0]))
    wanted = {argv: _answer(here, argv) for argv in asked}
    away = (lab.mirrors[0], *lab.targets)
    for machine in away:
        lab.cut(machine)
    try:
        for argv in asked:
            _ask(tally, there, argv, wanted[argv], times, most_s)
    finally:
        for machine in away:
            lab.mend(machine)


def _ask(
    tally: Tally, there: Operator, argv: tuple[str, ...], wanted: dict[str, Any], times: int, most_s: float
) -> None:
    seconds = []
    for _ in range(times):
        began = time.monotonic()
        found = _answer(there, argv)
        seconds.append(time.monotonic() - began)
        tally.check(f"{argv[0]}: the same", found == wanted, f"{found} instead of {wanted}")
    tally.note(f"{argv[0]}, s: median, longest", f"{median(seconds):.2f}, {max(seconds):.2f}")
    tally.check(f"{argv[0]}: in under {most_s:g} s, the median of {times}", median(seconds) < most_s, seconds)


def _answer(operator: Operator, argv: tuple[str, ...]) -> dict[str, Any]:
    document = operator.fab(*argv, "--json", program="invoke", code=None).json
    return {key: document[key] for key in SAME if key in document and not (key == "from" and argv[0] != "diff")}
