"""What a link of the lab really carries for one TCP stream: the B of the limit S/B."""

from __future__ import annotations

from ...core.errors import LabError
from ..lab.machines import Lab

PORT = 5201
SECONDS = 4
RECEIVE = """import socket, sys, time
server = socket.create_server(("", int(sys.argv[1])))
print("up", flush=True)
stream = server.accept()[0]
seen, began, first = 0, None, 0
while data := stream.recv(65536):
    seen += len(data)
    if began is None and seen > 262144:  # past what the shaper lets through at once
        began, first = time.monotonic(), seen
print((seen - first) / (time.monotonic() - began))
"""
SEND = """import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2]))).sendall(bytes(int(sys.argv[3])))
"""


def measure(lab: Lab, target: str, rate: str) -> float:
    """Send a few seconds' worth of bytes from server-1 to a target; return the bytes per second that arrived."""
    unit = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}[rate.lstrip("0123456789")]
    count = int(int(rate.rstrip("kmgbit")) * unit / 8 * SECONDS) + 262_144
    receiver = lab.popen(target, ["python3", "-c", RECEIVE, str(PORT)])
    if receiver.stdout is None or receiver.stdout.readline() != "up\n":
        raise LabError(f"no goodput: nothing listens on {target}")
    lab.run(lab.server, ["python3", "-c", SEND, target, str(PORT), str(count)])
    out, _ = receiver.communicate(timeout=60)
    return float(out)
