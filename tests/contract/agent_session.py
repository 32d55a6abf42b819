"""One session with the real agent over pipes, as a deployer holds it; and waiting for what must come true."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.remote import bundle

if TYPE_CHECKING:
    from agent_host import Content, Host, Made

ENVIRONMENT = "prod"
DEADLINE_S = 20.0


def staging(
    made: Made,
    dirs: tuple[str, ...] = (),
    files: tuple[str, ...] = (),
    reuse_after: int | None = 0,
    full: bool = False,
) -> dict[str, object]:
    """Return what a deployer asks for when a release is to be unpacked."""
    return {
        "id": made.id,
        "number": made.number,
        "commit": made.commit,
        "source_commit": made.commit,
        "tree": made.tree,
        "linked_dirs": list(dirs),
        "linked_files": list(files),
        "reuse_after": reuse_after,
        "full": full,
        "timeout_s": 20,
    }


class Refused(Exception):  # noqa: N818 - the protocol's word
    """The agent said no; ``code`` is its word for why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Agent:
    """One session with the real program, as the deployer holds it."""

    def __init__(self, host: Host, opening: Mapping[str, object], words: Sequence[str] = ()) -> None:
        self.host = host
        self._number, self._buffer = 0, b""
        self.process = subprocess.Popen(
            words or ["sh", "-c", bundle.command(str(host.app), None)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.send(bundle.bootstrap())
        self.sent_whole = self.line() == b"need"
        if self.sent_whole:
            self.send(b"%d\n" % len(bundle.sources()) + bundle.sources())
        fields = {"who": "op@laptop", "deploy_to": str(host.app), "link": str(host.link), "environment": ENVIRONMENT}
        self.pid: int = self.ask("open", **{**fields, **opening})["pid"]

    def send(self, data: bytes) -> None:
        """Write to the agent's standard input."""
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def line(self, timeout_s: float = DEADLINE_S) -> bytes:
        """Read one line; raise EOFError where the agent is gone."""
        assert self.process.stdout
        ends_at = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            assert select.select([self.process.stdout], [], [], max(0.0, ends_at - time.monotonic()))[0], "no answer"
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise EOFError
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def order(self, verb: str, **fields: object) -> int:
        """Send a request and do not wait."""
        self._number += 1
        self.send(json.dumps({"id": self._number, "verb": verb, "with": fields}).encode() + b"\n")
        return self._number

    def order_with(self, payload: bytes, verb: str, **fields: object) -> int:
        """Send a request whose payload follows it, and do not wait."""
        self._number += 1
        about = {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
        header = {"id": self._number, "verb": verb, "with": fields, "payload": about}
        self.send(json.dumps(header).encode() + b"\n" + payload)
        return self._number

    def answer(self, number: int) -> dict[str, Any]:
        """Wait for an answer; raise Refused where it is an error."""
        while True:
            message = json.loads(self.line())
            if message.get("id") == number:
                if "error" in message:
                    raise Refused(message["error"]["code"], message["error"]["message"])
                result = message["ok"]
                assert isinstance(result, dict)
                return result

    def ask(self, verb: str, **fields: object) -> dict[str, Any]:
        """Send a request and return its answer."""
        return self.answer(self.order(verb, **fields))

    def fetch(self, made: Made, *urls: str) -> dict[str, Any]:
        """Have a release brought, from the host's mirror unless others are named."""
        named = [{"name": f"m{place}", "url": url, "rank": place} for place, url in enumerate(urls)]
        mirrors = named or [{"name": "hub", "url": f"file://{self.host.mirror}", "rank": 0}]
        return self.ask("fetch", commit=made.commit, ref=made.ref, mirrors=mirrors, timeout_s=20)

    def stage(
        self,
        made: Made,
        dirs: tuple[str, ...] = (),
        files: tuple[str, ...] = (),
        fetch: bool = True,
        reuse_after: int | None = 0,
        full: bool = False,
    ) -> dict[str, Any]:
        """Fetch and unpack, in the spare where there is one."""
        if fetch:
            self.fetch(made)
        return self.ask("stage", **staging(made, dirs, files, reuse_after, full))

    def armed(self, files: Mapping[bytes, Content]) -> Made:
        """Stage and arm a release of these files, the host's first."""
        made = self.host.release(files)
        self.stage(made)
        self.ask("arm", id=made.id)
        return made

    def go(self, made: Made, turn: int, **changed: object) -> int:
        """Send the flip and do not wait."""
        fields: dict[str, object] = {
            "id": made.id,
            "expect": self.host.current(),
            "turn": turn,
            "decision": f"d{turn}",
            "kind": "deploy",
            "by": "op",
            "reason": "",
        }
        return self.order("flip", **{**fields, **changed})

    def flip(self, made: Made, turn: int, **changed: object) -> dict[str, Any]:
        """Send the flip and return its answer."""
        return self.answer(self.go(made, turn, **changed))

    def leave(self) -> int:
        """End the input, as a deployer that is through, and wait until the agent has gone; return its exit status."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(DEADLINE_S)

    def wait(self) -> int:
        """Wait until the agent has gone by itself; return its exit status."""
        return self.process.wait(DEADLINE_S)

    def stop(self) -> None:
        """Freeze the agent, as a suspended machine does, and wait until it is."""
        os.kill(self.pid, signal.SIGSTOP)
        until(self.is_frozen)

    def is_frozen(self) -> bool:
        """Tell whether the agent has been stopped."""
        return _state(self.pid) == "T"

    def wake(self) -> None:
        """Let a frozen agent go on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the agent, if it lives."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                if stream:
                    stream.close()


def until(true: Callable[[], bool], seconds: float = DEADLINE_S) -> None:
    """Poll until something holds, or fail."""
    ends_at = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends_at, "it never came true"
        time.sleep(0.01)


def elapse(seconds: float, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Let time pass, for what is about time itself."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        meanwhile()
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Tell whether a process is there and is no zombie."""
    return _state(pid) not in ("", "Z", "X")


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
