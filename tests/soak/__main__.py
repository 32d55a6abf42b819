"""Run one of the long runs on a lab of its own: ``invoke dev.soak NAME`` starts this.

It prints a table of counts and ends with 6 where anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from contenders import contenders
from failures import disks, failures
from frozen import frozen
from kills import kills
from one_mirror import one_mirror
from tally import Tally

from tasks.remote.lab import Lab, LabError
from tasks.remote.lab.spaces import need

RUNS: dict[str, tuple[Callable[[Lab, Tally, int], None], int, int]] = {
    "failures": (failures, 100, 1),
    "kills": (kills, 6, 20),
    "contenders": (contenders, 2, 20),
    "frozen": (frozen, 3, 1),
    "one-mirror": (one_mirror, 3, 5),
}
"""What runs, on how many targets and how many times unless it is said otherwise."""


def main() -> int:
    """Run what is asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="invoke dev.soak")
    parser.add_argument("name", choices=RUNS)
    parser.add_argument("--hosts", type=int)
    parser.add_argument("--times", type=int)
    asked = parser.parse_args()
    run, hosts, times = RUNS[asked.name]
    hosts, times, tally, began = asked.hosts or hosts, asked.times or times, Tally(), time.monotonic()
    if asked.name == "failures" and hosts < 5:
        parser.error("failures: four targets fail, so at least --hosts 5")
    try:
        need()
        with tempfile.TemporaryDirectory() as folder:
            small = disks(hosts) if asked.name == "failures" else {}
            with Lab(Path(folder, "lab"), hosts, laptop=True, small_disk=small) as lab:
                run(lab, tally, times)
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    tally.note("hosts, times", f"{hosts}, {times}")
    tally.note("all of it, s", f"{time.monotonic() - began:.0f}")
    sys.stdout.write(f"{tally}\n")
    return tally.exit_code


if __name__ == "__main__":
    sys.exit(main())
