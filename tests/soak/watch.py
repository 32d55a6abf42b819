"""Reads what every host serves, again and again, until its input ends: a program of its own, beside the soak.

``python watch.py ALLOWED HOST...``: the hosts' ``deploy_to``, and a file that lists the digests of whole releases, one
on a line. It says "ready" after the first round and at the end, as JSON, what it read and what of that was not one
whole release.
"""

from __future__ import annotations

import json
import select
import sys
from pathlib import Path

from invariants import read_tree
from looking import digest

PAUSE_S = 0.01


def main(allowed: str, *hosts: str) -> int:
    """Watch until the end of input."""
    reads, served, wrong = 0, set[str](), list[str]()
    known = set(Path(allowed).read_text().split())
    while True:
        for host in map(Path, hosts):
            release = host / (host / "current").readlink()
            try:
                seen = digest(read_tree(release))
            except (AssertionError, OSError) as error:
                seen = str(error)
            if seen not in known:
                known = set(Path(allowed).read_text().split())
            if seen not in known:
                wrong.append(f"{release}: {seen}")
            reads += 1
            served.add(f"{host}: {release.name}")
        if reads == len(hosts):
            sys.stdout.write("ready\n")
            sys.stdout.flush()
        if select.select([sys.stdin], [], [], PAUSE_S)[0]:
            break
    sys.stdout.write(json.dumps({"reads": reads, "served": len(served), "wrong": wrong[:100]}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
