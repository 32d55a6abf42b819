"""What stands on the disks of the lab's machines before they start: users, keys, known hosts, stock ssh settings."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ...core.errors import LabError
from ...core.text import printable

UID = 7700  # of user and group deploy
FOLDERS = {
    "etc": 0o755,
    "etc/ssh": 0o755,
    "home": 0o755,
    "home/deploy": 0o755,
    "home/deploy/.ssh": 0o700,
    "root": 0o700,
    "root/.ssh": 0o700,
    "srv": 0o755,
    "tmp": 0o1777,
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
    root: Path,
    addresses: Mapping[str, str],
    mirrors: Sequence[str],
    operators: Sequence[str],
    visible: Sequence[Path],
    sshd: Sequence[str] = (),
) -> None:
    """Write the private folders of the machines that ``addresses`` names.

    Root on the ``operators`` logs in everywhere as deploy, deploy on all others logs in at the mirrors. ``visible`` are
    folders of the real machine that operators see; ``sshd`` are lines that go before the stock settings.
    """
    for machine in addresses:
        _lay_folders(root / machine, machine, addresses, owned=machine not in operators)
        _write(root / machine / "etc/ssh/sshd_config", "".join(f"{line}\n" for line in sshd) + SSHD, 0o644)
    for machine in operators:
        for path in hidden(visible):
            (root / machine / path.relative_to("/")).mkdir(parents=True, exist_ok=True)
    masters = [root / machine / "root/.ssh/id_ed25519" for machine in operators]
    users = [root / machine / "home/deploy/.ssh/id_ed25519" for machine in addresses if machine not in operators]
    for key in [*masters, *users, *(root / machine / KEY for machine in addresses)]:
        _make_key(key)
    hosts = {
        machine: f"{machine},{address} {' '.join(_public(root / machine / KEY).split()[:2])}\n"
        for machine, address in addresses.items()
    }
    for master in masters:
        _write(master.with_name("known_hosts"), "".join(hosts.values()), 0o600)
    for machine in addresses:
        home = root / machine / "home/deploy/.ssh"
        trusted = [*masters, *users] if machine in mirrors else masters
        _write(home / "authorized_keys", "".join(map(_public, trusted)), 0o600)
        _write(home / "known_hosts", "".join(hosts[mirror] for mirror in mirrors), 0o600)
        for path in [home.parent, home, *home.iterdir()]:
            os.chown(path, UID, UID)


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
    _make_key(key)


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


def _lay_folders(home: Path, machine: str, addresses: Mapping[str, str], owned: bool) -> None:
    home.mkdir(parents=True)
    for folder, mode in FOLDERS.items():
        (home / folder).mkdir()
        (home / folder).chmod(mode)  # mkdir's own mode would depend on the umask
    if owned:
        os.chown(home / "srv", UID, UID)
    names = "".join(f"{address} {name}\n" for name, address in addresses.items())
    users = {
        "passwd": f"deploy:x:{UID}:{UID}::/home/deploy:/bin/sh",
        "group": f"deploy:x:{UID}:",
        "shadow": "deploy:*:19000:0:99999:7:::",
    }
    for name, line in users.items():
        real = Path("/etc", name)
        others = [each for each in real.read_text().splitlines() if not each.startswith("deploy:")]
        _write(home / "etc" / name, "\n".join([*others, line]) + "\n", real.stat().st_mode & 0o777)
    _write(home / "etc/hosts", f"127.0.0.1 localhost\n{names}", 0o644)
    _write(home / "etc/ssh/ssh_config", SSH, 0o644)


def _make_key(path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    shape = (serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    _write(path, key.private_bytes(serialization.Encoding.PEM, *shape).decode(), 0o600)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    _write(path.with_name(path.name + ".pub"), f"{public.decode()} skein-lab\n", 0o644)


def _public(key: Path) -> str:
    return key.with_name(key.name + ".pub").read_text()


def _write(path: Path, text: str, mode: int) -> None:
    path.write_text(text)
    path.chmod(mode)
