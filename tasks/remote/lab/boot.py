"""How a machine of the lab comes up: what its process 1 does before it becomes sshd."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# The lab speaks IPv4 alone: hundreds of hosts that announce themselves to each other over IPv6 drown what is measured.
QUIET = "[ ! -e /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6"

# Everything is bound before /root and /tmp are covered, for the lab itself or the checkout may lie under them.
BOOT = f"""
set -e
cd "$1"; owner=$2 name=$3 service=$4; shift 4
mount -t proc proc /proc
{QUIET}
hostname "$name"
for path; do mount -c --bind "$path" "./$path"; done
for file in passwd group shadow hosts nginx/nginx.conf haproxy/haproxy.cfg; do
  [ ! -e "./etc/$file" ] || [ ! -e "/etc/$file" ] || mount -c --bind "./etc/$file" "/etc/$file"
done
mount -t tmpfs -o mode=755 skein-lab /run
mkdir -m 755 /run/sshd /run/lock /run/haproxy
echo "$owner" >/run/skein-lab
for folder in etc/ssh srv home root tmp; do mount -c --rbind "./$folder" "/$folder"; done
cd /
$service
echo ready
exec "$(command -v sshd)" -D -e
"""
HUB = f'set -e; {QUIET}; mount -t tmpfs skein-lab /run; echo "$1" >/run/skein-lab; echo ready; exec sleep infinity'


def machine(home: Path, owner: str, name: str, service: str, visible: Sequence[Path]) -> list[str]:
    """Return the command that becomes a machine's sshd, once ``service`` runs; it says "ready" shortly before."""
    boot = ["sh", "-c", BOOT, "sh", str(home), owner, name, service, *map(str, visible)]
    return ["unshare", "-n", "-m", "-u", "--propagation", "private", *boot]


def hub(owner: str) -> list[str]:
    """Return the command that holds the network namespace of the bridge; it says "ready"."""
    return ["unshare", "-n", "-m", "-u", "sh", "-c", HUB, "sh", owner]
