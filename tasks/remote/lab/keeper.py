"""The process that holds a lab until it is told to end: ``python -m tasks.remote.lab.keeper FOLDER ORDER``.

It says "up", or in one line why not, on standard output, and then nothing more. Its folder is locked by whoever
started it, through a descriptor that it inherits: the lock lasts as long as this process, whatever ends that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ...core.errors import LabError
from . import provision, sample, spaces
from .machines import Lab
from .state import STATE, Order, State

UP = "up"


def main(folder: Path, order: Order) -> int:
    """Hold a lab until SIGTERM; return 2 where it could not be built."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, _end)
    try:
        with order.lab(folder) as lab:
            sample.lay_out(lab)
            _write_state(folder, order, lab)
            _say(UP)
            while True:
                signal.pause()
    except LabError as error:
        _say(str(error))
        return error.exit_code


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(0)


def _say(line: str) -> None:
    """Say one line to whoever started this process, who may have gone meanwhile; nothing can be said after it."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{line}\n".encode())
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _write_state(folder: Path, order: Order, lab: Lab) -> None:
    state = State(
        owner=spaces.owner(),
        order=order,
        hub=lab.first(""),
        operators=tuple(lab.operators),
        unserved=provision.unserved(),
        machines={machine: lab.first(machine) for machine in lab.machines},
    )
    fresh = folder / f"{STATE}.new"
    fresh.write_text(state.model_dump_json(indent=1) + "\n", "utf-8")
    fresh.replace(folder / STATE)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Order.model_validate_json(sys.argv[2])))
