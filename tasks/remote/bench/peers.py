"""The tools that Skein is measured beside, each as a person would type it: a few lines of shell on server-1.

All see `$hosts` (the targets), `$ssh`, `$version`, and their folder `$bench` with `changed`, the names of the files
that differ from the oldest release on the fleet. They end when the new files are live on every target that answers;
whether they are is for the checker to say, not for them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from ..lab import sample

BENCH = "/srv/bench"  # on server-1
PLAIN = "/srv/plain"  # on targets, of all tools that change files where they are
CAPISTRANO = "/srv/capistrano"
SWARM = "/srv/swarm"
SSH = "ssh -o BatchMode=yes -o ConnectTimeout=10"
WIDE = 32

ALL = 'printf "%s\\n" $hosts | xargs -P {} -I% sh -c "$each" sh %'
THERE = '$ssh deploy@$1 "version=$version; $remote"'
TAR = f'tar -c -C {sample.SITE} -T "$bench/changed" -f "$bench/change.tar"'
RSYNC = "rsync -az --delete"

RSYNCD = f"""use chroot = no
uid = root
[www]
path = {sample.SITE}
read only = yes
exclude = /.git
"""
PLAYBOOK = f"""- hosts: all
  gather_facts: false
  strategy: free
  tasks:
    - ansible.posix.synchronize:
        src: {sample.SITE}/
        dest: {PLAIN}/
        delete: true
        rsync_opts: [--exclude=/.git]
"""
FILES = {"rsyncd.conf": RSYNCD, "playbook.yml": PLAYBOOK}
"""What stands in `$bench`, with `changed` and Ansible's `inventory`."""

FETCH = f"""cd {CAPISTRANO} && git --git-dir=repo fetch --quiet --no-tags origin +main:main &&
mkdir -p releases/$version && git --git-dir=repo archive main | tar -x -C releases/$version &&
ln -s releases/$version next && mv -T next current"""
ARIA = "aria2c --quiet --enable-dht=false --bt-enable-lpd=false --seed-ratio=0"
SEED = f"""{TAR}
rm -f "$bench/it.torrent"
mktorrent -l 15 -a http://server-1:6969/announce -o "$bench/it.torrent" "$bench/change.tar" >/dev/null
aria2c -S "$bench/it.torrent" | sed -n 's/^Info Hash: //p' >"$bench/whitelist"
opentracker -p 6969 -P 6969 -w "$bench/whitelist" >/dev/null 2>&1 &
tracker=$!
{ARIA} --dir="$bench" --check-integrity=true "$bench/it.torrent" >/dev/null 2>&1 </dev/null &
seeder=$!"""
JOIN = f"""mkdir -p {SWARM} && cd {SWARM} && cat >it.torrent
printf '#!/bin/sh\\n: >done\\n' >hook && chmod +x hook
{ARIA} --file-allocation=none --on-bt-download-complete=./hook it.torrent >/dev/null 2>&1 </dev/null &
echo $! >pid
until [ -e done ]; do sleep 0.1; done
tar -x -C {PLAIN} -f change.tar"""
CLUSH = f'clush -q -f {WIDE} -t 10 -l deploy -o "-o BatchMode=yes" -w "$(echo $hosts | tr " " ,)"'


@dataclass(frozen=True)
class Peer:
    """A tool: ``needs`` are its programs and Debian's packages of them; ``daemon`` serves on server-1 meanwhile.

    ``each`` is run on server-1 for one target, `$1`, ``at_once`` of them side by side, and ``remote`` is what that may
    run there; ``before`` and ``after`` go round it. ``live`` is where on a target the files then are.
    """

    needs: Mapping[str, str]
    before: str = ":"
    each: str = ""
    remote: str = ""
    after: str = ":"
    at_once: int = WIDE
    daemon: tuple[str, ...] = ()
    live: str = PLAIN

    def script(self) -> str:
        """Return all of it as one shell script."""
        return "\n".join([self.before, ALL.format(self.at_once) if self.each else ":", self.after])


PEERS = {
    "rsync": Peer({"rsync": "rsync"}, each=f'{RSYNC} --exclude=/.git -e "$ssh" {sample.SITE}/ deploy@$1:{PLAIN}/'),
    "rsyncd": Peer(
        {"rsync": "rsync"},
        each=THERE,
        remote=f"{RSYNC} rsync://server-1/www/ {PLAIN}/",
        daemon=("rsync", "--daemon", "--no-detach", f"--config={BENCH}/rsyncd.conf"),
    ),
    "git": Peer(
        {"git": "git"},
        each=THERE,
        remote=FETCH,
        daemon=("git", "daemon", "--reuseaddr", "--export-all", "--base-path=/srv", "--max-connections=0"),
        live=f"{CAPISTRANO}/current",
    ),
    "ansible": Peer(
        {"ansible-playbook": "ansible", "rsync": "rsync"},
        before=f'ansible-playbook -f {WIDE} -i "$bench/inventory" "$bench/playbook.yml" >/dev/null',
    ),
    "clush": Peer(
        {"clush": "clustershell"},
        before=f'{TAR} && {CLUSH} --copy "$bench/change.tar" --dest /srv/change.tar',
        after=f'{CLUSH} "tar -x -C {PLAIN} -f /srv/change.tar"',
    ),
    "bittorrent": Peer(
        {"aria2c": "aria2", "opentracker": "opentracker", "mktorrent": "mktorrent"},
        before=SEED,
        each=f'{THERE} <"$bench/it.torrent"',
        remote=JOIN,
        after='kill "$seeder" "$tracker"; wait',
        at_once=500,  # who waits for the others' pieces must not keep them out
    ),
}


def lacking_programs(needs: Mapping[str, str]) -> list[str]:
    """Return the packages of programs that are not there; root on a Debian fetches them first, by name."""
    lacks = _absent(needs)
    if lacks and os.geteuid() == 0 and shutil.which("apt-get"):
        for argv in (["update"], ["install", "-y", "--no-install-recommends", *lacks]):
            env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            command = ["apt-get", "-qq", *argv]
            subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=600, check=False)
        lacks = _absent(needs)
    return lacks


def _absent(needs: Mapping[str, str]) -> list[str]:
    path = sample.variables()["PATH"]
    return [package for program, package in needs.items() if shutil.which(program, path=path) is None]
