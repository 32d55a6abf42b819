"""What stands on the disks of the lab's machines before they start: folders, users, stock ssh settings."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ...core.errors import LabError
from ...core.text import printable

UID = 7700  # of user and group deploy
FOLDERS = {
    "etc": 0o755,
    "etc/haproxy": 0o755,
    "etc/nginx": 0o755,
    "etc/ssh": 0o755,
    "home": 0o755,
    "home/deploy": 0o755,
    "root": 0o700,
    "srv": 0o755,
    "tmp": 0o1777,
}
DEPLOY = {
    "passwd": f"deploy:x:{UID}:{UID}::/home/deploy:/bin/sh",
    "group": f"deploy:x:{UID}:",
    "shadow": "deploy:*:19000:0:99999:7:::",
}
KEY = Path("etc/ssh/ssh_host_ed25519_key")

# Debian's own settings, PAM included. Only the kinds of host keys are fewer, for the time that making them takes.
SSHD = """HostKey /etc/ssh/ssh_host_ed25519_key
KbdInteractiveAuthentication no
UsePAM yes
X11Forwarding yes
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp /usr/lib/openssh/sftp-server
"""
SSH = """Host *
    SendEnv LANG LC_*
    HashKnownHosts yes
    GSSAPIAuthentication yes
"""


def build(
    root: Path, machines: Sequence[str], operators: Sequence[str], visible: Sequence[Path], sshd: Sequence[str] = ()
) -> None:
    """Write the private folders of the machines below ``root``, each as fresh as an installer would leave it.

    ``visible`` are folders of the real machine that ``operators`` see; ``sshd`` are lines that go before the stock
    settings.
    """
    users = {name: (_with_deploy(name), Path("/etc", name).stat().st_mode & 0o777) for name in DEPLOY}
    for machine in machines:
        home = root / machine
        _lay_folders(home)
        for name, (text, mode) in users.items():
            _write(home / "etc" / name, text, mode)
        _write(home / "etc/hosts", "127.0.0.1 localhost\n", 0o644)
        _write(home / "etc/ssh/ssh_config", SSH, 0o644)
        _write(home / "etc/ssh/sshd_config", "".join(f"{line}\n" for line in sshd) + SSHD, 0o644)
    for machine in operators:
        for path in hidden(visible):
            (root / machine / path.relative_to("/")).mkdir(parents=True, exist_ok=True)


def hidden(visible: Sequence[Path]) -> list[Path]:
    """Return those folders that a machine's private ones would cover, each once, outer ones first."""
    covered = ("root", "home", "tmp", "srv", "run")
    inside = sorted({path.resolve() for path in visible if path.resolve().parts[1] in covered})
    return [path for path in inside if not any(other in path.parents for other in inside)]


def listens(machine: Path) -> int:
    """Count how often the machine's sshd said that it listens."""
    log = machine / "sshd.log"
    return log.read_text(errors="replace").count("Server listening on 0.0.0.0") if log.exists() else 0


def last_words(machine: Path) -> str:
    """Return the last line of the machine's log, where sshd says why it ended."""
    lines = (machine / "sshd.log").read_text(errors="replace").splitlines()
    return printable(lines[-1]) if lines else "it said nothing"


def fill(path: Path) -> None:
    """Write to a file until its disk has no byte left."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\xff" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def change_host_key(machine: Path) -> None:
    """Make another host key and keep the first one beside it."""
    key = machine / KEY
    for each in (key, key.with_name(key.name + ".pub")):
        first = each.with_name("first-" + each.name)
        if not first.exists():
            shutil.copy2(each, first)
        each.unlink()
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)]
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=True)


def restore_host_key(machine: Path) -> None:
    """Put the first host key back; it must have been changed."""
    key = machine / KEY
    for each in (key, key.with_name(key.name + ".pub")):
        each.with_name("first-" + each.name).replace(each)


def wait_until(question: Callable[[], bool], what: str, seconds: float) -> None:
    """Ask until the answer is yes; past the deadline raise LabError that says what did not come true."""
    deadline = time.monotonic() + seconds
    while not question():
        if time.monotonic() > deadline:
            raise LabError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


def _lay_folders(home: Path) -> None:
    home.mkdir(parents=True)
    for folder, mode in FOLDERS.items():
        (home / folder).mkdir()
        (home / folder).chmod(mode)  # mkdir's own mode would depend on the umask
    os.chown(home / "home/deploy", UID, UID)


def _with_deploy(name: str) -> str:
    """Return a file of the real machine's users with the lab's own added to them."""
    others = [each for each in Path("/etc", name).read_text().splitlines() if not each.startswith("deploy:")]
    return "\n".join([*others, DEPLOY[name]]) + "\n"


def _write(path: Path, text: str, mode: int) -> None:
    path.write_text(text)
    path.chmod(mode)
