"""A peer of a swarm: a short-lived process of its own, which carries two private torrents between planned peers.

It is started as text by the agent, or by the deployer, and imports nothing of either. Lines of JSON come in: first
what to carry and where to listen, then ``{"go": …}`` with the planned peers, then questions. At the end of its input it
ends, and so with the session that started it, however that ends.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import time

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

    Json = Dict[str, Any]

LISTEN_S, LOOK_S = 10.0, 1.0
FIRST_S = 4.0
"""So long after the go the first byte of a stripe may take."""

STALL_S, PATIENCE_S = 3.0, 4.0
"""Without a byte of a stripe for so long, the next upstream is asked as well; and so long it has to show itself."""

BEHIND, SLACK = 3.0, 10
"""So many times as much of the other stripe, and one part of so many of the whole, mean that an upstream is slow."""

BUFFERS, FAR_BUFFERS = (32 << 10, 64 << 10), (128 << 10, 256 << 10)
"""Bytes to send and to receive: what waits in buffers delays every hop, and between zones more must be under way."""

QUIET = (
    *("enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp", "enable_incoming_utp", "enable_outgoing_utp"),
    *("broadcast_lsd", "listen_system_port_fallback", "announce_crypto_support"),
)


def settings(order: Json) -> Json:
    """Return what libtorrent is to do: nothing but carry these torrents, and without waiting for anything."""
    tuned = {
        "listen_interfaces": ",".join("%s:%d" % (each, order["port"]) for each in order["listen"]),
        "user_agent": "skein",
        "alert_mask": 0x1 | 0x40,  # errors, and states of torrents
        "unchoke_interval": 1,
        "optimistic_unchoke_interval": 2,
        "unchoke_slots_limit": -1,
        "connection_speed": 500,
        "peer_connect_timeout": 5,
        "min_reconnect_time": 1,
        "max_failcount": 20,
        "predictive_piece_announce": 1000,
        "allow_multiple_connections_per_ip": True,
        "max_retry_port_bind": 0,
        "aio_threads": 1,
        "hashing_threads": 1,
        "low_prio_disk": False,
        "out_enc_policy": 2,
        "in_enc_policy": 2,
    }
    tuned.update(buffers(BUFFERS))
    tuned.update(dict.fromkeys(QUIET, False))
    return tuned


def buffers(sizes: Tuple[int, int]) -> Json:
    """Return the settings for buffers of these sizes."""
    send, receive = sizes
    return {"send_socket_buffer_size": send, "recv_socket_buffer_size": receive, "send_buffer_watermark": 2 * send}


def limit(order: Json) -> None:
    """Bound what this process may take, whatever goes wrong in it: seconds, memory, and what it writes."""
    signal.alarm(int(order["seconds"]))
    resource.setrlimit(resource.RLIMIT_CPU, (int(order["seconds"]), int(order["seconds"])))
    resource.setrlimit(resource.RLIMIT_AS, (order["memory"], order["memory"]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (order["bytes"], order["bytes"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Peer:
    """One session of libtorrent with a torrent for each stripe."""

    def __init__(self, lt: Any, order: Json) -> None:
        self.lt, self.order = lt, order
        self.session = lt.session(settings(order))
        self.awake, self.sink = socket.socketpair()  # libtorrent writes to one when it has something to tell
        self.awake.setblocking(False)
        self.session.set_alert_fd(self.sink.fileno())
        self.admit([])
        self.torrents = [self.add(path) for path in order["torrents"]]
        count = len(self.torrents)
        self.ways: List[List[Any]] = [[] for _ in range(count)]  # upstreams that were not asked yet
        self.turned, self.moved, self.done = [0.0] * count, [0.0] * count, [0] * count
        self.began = 0.0
        self.told = False

    def add(self, path: str) -> Any:
        """Add the torrent in a file; a seed has the whole of it."""
        lt, flags = self.lt, self.lt.torrent_flags
        parameters = lt.add_torrent_params()
        parameters.ti = lt.torrent_info(path)
        parameters.save_path = self.order["folder"]
        parameters.flags = flags.apply_ip_filter | flags.disable_dht | flags.disable_lsd | flags.disable_pex
        if self.order["seed"]:
            parameters.flags |= flags.seed_mode
        return self.session.add_torrent(parameters)

    def admit(self, addresses: List[str]) -> None:
        """Let nobody but these connect, or be connected to."""
        rules = self.lt.ip_filter()
        rules.add_rule("0.0.0.0", "255.255.255.255", 1)  # noqa: S104 - that is who is not let in
        rules.add_rule("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1)
        for address in addresses:
            rules.add_rule(address, address, 0)
        self.session.set_ip_filter(rules)

    def listens(self) -> int:
        """Wait until it listens; return the port, or 0 where it cannot."""
        ends_at = time.monotonic() + LISTEN_S
        while time.monotonic() < ends_at:
            self.session.wait_for_alert(200)
            for alert in self.session.pop_alerts():
                if type(alert).__name__ == "listen_failed_alert":
                    return 0
                if type(alert).__name__ == "listen_succeeded_alert":
                    return int(self.session.listen_port())
        return 0

    def go(self, order: Json) -> None:
        """Let the planned peers in and connect to the first upstream of each stripe."""
        if order.get("far"):
            self.session.apply_settings(buffers(FAR_BUFFERS))
        self.admit(order["allow"])
        self.began = time.monotonic()
        if not self.order["seed"]:
            self.ways = [list(way) for way in order["upstreams"]]
        for stripe in range(len(self.torrents)):
            self.turn(stripe)
            self.moved[stripe] = self.began + FIRST_S

    def turn(self, stripe: int) -> None:
        """Connect to the next upstream of a stripe as well."""
        self.turned[stripe] = time.monotonic()
        if self.ways[stripe]:
            address, port = self.ways[stripe].pop(0)
            self.torrents[stripe].connect_peer((address, port))

    def look(self) -> bool:
        """Look how far it is; turn to others where a stripe lags. Tell whether all is here."""
        now = time.monotonic()
        states = [torrent.status() for torrent in self.torrents]
        for stripe, state in enumerate(states):
            if state.total_done > self.done[stripe]:
                self.done[stripe], self.moved[stripe] = state.total_done, now
        if all(state.is_seeding for state in states):
            for torrent in self.torrents:
                torrent.flush_cache()
            return True
        for stripe, state in enumerate(states):
            if state.is_seeding or now - self.turned[stripe] < PATIENCE_S:
                continue
            most = max(self.done)
            is_behind = most > BEHIND * self.done[stripe] + sum(each.total for each in states) / SLACK
            if is_behind or now - self.moved[stripe] > STALL_S:
                self.turn(stripe)
        return False

    def counts(self) -> Json:
        """Return the payload bytes that went in and out, and how far it is."""
        states = [torrent.status() for torrent in self.torrents]
        return {
            "received": sum(state.total_payload_download for state in states),
            "sent": sum(state.total_payload_upload for state in states),
            "done": sum(state.total_done for state in states),
        }

    def drain(self) -> None:
        """Take what libtorrent tells: it matters only that something happened."""
        try:
            while self.awake.recv(4096):
                pass
        except BlockingIOError:
            pass
        self.session.pop_alerts()


def say(message: Json) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def serve(peer: Peer) -> None:
    """Follow what comes in until its end, and say once when all is here."""
    pending = b""
    while True:
        watched = [0, peer.awake.fileno()]
        ready, _, _ = select.select(watched, [], [], LOOK_S)
        if watched[1] in ready:
            peer.drain()
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                return
            pending += data
            while b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                order = json.loads(line)
                if "go" in order:
                    peer.go(order["go"])
                else:
                    say({"counts": peer.counts()})
        if peer.began and not peer.told and peer.look():
            peer.told = True
            say({"whole": {"seconds": time.monotonic() - peer.began, "at": time.time()}})


def main() -> None:
    """Read the first line, limit this process, listen and serve."""
    with open(0, "rb", buffering=0, closefd=False) as source:  # not a byte more: what follows is for ``serve``
        order = json.loads(source.readline())
    sys.path.insert(0, order["library"])
    try:
        lt = importlib.import_module("libtorrent")
    except Exception as error:  # noqa: BLE001 - whatever a foreign library raises: this host has none that works
        return say({"failed": "libtorrent cannot be loaded: %s" % error})
    limit(order)
    peer = Peer(lt, order)
    port = peer.listens()
    if not port:
        return say({"failed": "port %d cannot be listened at: it is taken, or not allowed" % order["port"]})
    say({"port": port})
    serve(peer)
    shutil.rmtree(order["folder"], ignore_errors=True)
    return None


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
