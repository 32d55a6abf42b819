"""An operator frozen with SIGSTOP in the midst of a deploy, overtaken by another, then woken: no effect on any host."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Sequence

from lab_operator import Operator, open_server, small_site, somebody
from looking import Trace, differences, ledger_wrongs, records, stands_still, trace
from real_site import Site
from tally import Tally

from tasks.dev import failpoint_names
from tasks.remote.lab import Lab, wait_until

ANN, BOB = somebody("ann"), somebody("bob")
HEARD_S = 10
"""For so long after she froze Ann's lock stands for certain; after 15 s the hub drops it by itself."""

POINTS = tuple(name for name in failpoint_names() if name.startswith("deploy.") and name != "deploy.tagged")
"""Where Ann freezes; `deploy.tagged` has the same neighbours as `deploy.released`."""


def frozen(lab: Lab, tally: Tally, times: int = 1, points: Sequence[str] = POINTS) -> None:
    """Freeze Ann, on server-1, at each point; Bob, on the laptop, breaks her lock as documented, and deploys.

    Each point is tried with and without a command after the flip.
    """
    site = small_site(lab, "/srv/frozen")
    open_server(lab)
    ann, bob = (
        Operator(lab, "frozen", "/srv/frozen", machine, groups={"web": {"hosts": lab.targets}})
        for machine in lab.operators
    )
    ann.fab("setup")
    ann.deploy(env=ANN)
    for place, point in itertools.product(range(2 * times), points):
        for side in (ann, bob):
            side.configure(
                groups={"web": {"hosts": lab.targets}}, targets={"after_flip": ["true"]} if place % 2 else {}
            )
        _freeze(tally, ann, bob, site, point, f"{point}{', after_flip' * (place % 2)}")


def _freeze(tally: Tally, ann: Operator, bob: Operator, site: Site, at: str, point: str) -> None:
    site.change({"index.html": f"ann's, {len(site.commits)} {point}\n".encode()})
    sleeper = ann.start("deploy", "--json", env={**ANN, "SKEIN_FAILPOINT": f"{at}:1:pause"})
    wait_until(lambda: stands_still(sleeper.pid), f"ann stands still at {point}", 60)
    began = time.monotonic()
    _overtake(tally, bob, site, point, began)
    tally.note(f"{point}: the other is live after, s", f"{time.monotonic() - began:.1f}")
    before, known = _hosts(ann), len(records(ann))
    os.kill(sleeper.pid, signal.SIGCONT)
    woken = ann.finish(sleeper)
    tally.check("woken: exit 4", woken.code == 4, f"{point}: {woken.said}")
    tally.note(f"{point}: woken", f"exit {woken.code}: {woken.json.get('error') or woken.json['headline']}")
    for host, changed in _changes(before, _hosts(ann)).items():
        tally.check("woken: no effect on any host", not changed, f"{point}, {host}: {changed}")
    added = [record["kind"] for record in records(ann)[::-1][known:]]
    tally.check("woken: decides nothing more", not {"deploy", "rollback"} & set(added), f"{point}: {added}")
    wrongs = ledger_wrongs(ann)
    tally.check("woken: the ledger is whole", not wrongs, f"{point}: {wrongs}")
    ann.assert_serves(site.files_at(site.commits[-1]))
    status = bob.fab("status", "--json", program="invoke", env=BOB, code=None)
    tally.check("woken: status is well", status.code == 0, f"{point}: {status.said}")


def _overtake(tally: Tally, bob: Operator, site: Site, point: str, began: float) -> None:
    refused = bob.deploy(code=None, env=BOB)
    if time.monotonic() - began < HEARD_S:
        told = refused.code == 4 and "ann@server-1" in refused.said
        tally.check("the other is told by whom", told, f"{point}: {refused.said}")
    broken = bob.fab("unlock", "--reason", "ann does not answer", code=None, env=BOB)
    tally.check("the other breaks the lock", broken.code == 0, f"{point}: {broken.said}")
    site.change({"index.html": f"bob's, {len(site.commits)} {point}\n".encode()})
    run = bob.deploy("--wait", "30", code=None, env=BOB)
    tally.check("the other deploys", run.code == 0, f"{point}: {run.said}")


def _hosts(operator: Operator) -> dict[str, Trace]:
    return {host: trace(operator.path(host), without=(".skein/lock",)) for host in operator.hosts}


def _changes(old: dict[str, Trace], new: dict[str, Trace]) -> dict[str, list[str]]:
    return {host: differences(old[host], new[host]) for host in old}
