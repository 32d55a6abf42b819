"""A real sshd of the tests' own, and waiting for what must come true."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fabric
from needs import need_program


class Sshd:
    """An sshd of the test's own, on a port of loopback that the kernel chose."""

    def __init__(self, folder: Path, more: str = "") -> None:
        need_program("sshd", "openssh-server")
        program = shutil.which("sshd") or "/usr/sbin/sshd"
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's privilege separation insists on it
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.key, self._log = folder / "user", folder / "sshd.log"
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n" + more
        )
        with self._log.open("wb") as log:
            command = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
            self._process = subprocess.Popen(command, stderr=log, start_new_session=True)
        wait_until(self._answers, f"sshd does not answer: {self._log}")

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            return probe.recv(4) == b"SSH-"
        return False

    def connect(self, port: int | None = None) -> Any:
        options = {"key_filename": str(self.key), "allow_agent": False, "look_for_keys": False}
        return fabric.Connection("127.0.0.1", getpass.getuser(), port or self.port, connect_kwargs=options)

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def wait_until(true: Callable[[], bool], message: str, deadline_s: float = 20) -> None:
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, message
        threading.Event().wait(0.02)
