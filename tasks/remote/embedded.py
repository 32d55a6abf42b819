"""A small SSH fleet inside this process, for the demo and for tests: real sessions, no sshd, nothing to set up.

Every host is a server on loopback with a key of its own. It runs commands and nothing else: no shell, no terminal, no
forwarding, no sftp, no agent. It lets in one key, which is made on the spot.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..core.errors import UsageError

if TYPE_CHECKING:  # an optional dependency: the demo's alone
    import asyncssh

ADDRESS = "127.0.0.1"
START_TIMEOUT_S = 30.0
LOGIN_TIMEOUT_S = 30
GRACE_S = 5.0
"""How long a command may go on once its channel is closed: enough to see the end of its input and tidy up."""

CHUNK = 65_536


class EmbeddedFleet:
    """SSH servers for ``names``, up from ``start`` to ``stop``, or for a ``with`` block.

    Keys stay in ``root`` from run to run; ports do not, so ``known_hosts`` is written at each start. A command runs as
    this user under ``sh -c``, in ``root/hosts/<name>``, which is its home too.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        if "operator" in names:
            raise UsageError("an embedded host cannot be named operator: that is the name of the client's key")
        self.root, self.names = root.absolute(), tuple(names)
        self.identity_file, self.known_hosts = self.root / "operator.key", self.root / "known_hosts"
        self.ports: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._commands: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Bring all servers up and return when they listen; raise UsageError where asyncssh is not installed."""
        try:
            import asyncssh  # noqa: F401
        except ImportError as error:
            raise UsageError("the demo needs asyncssh: pip install -e '.[demo]'") from error
        started: Future[None] = Future()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="embedded", daemon=True)
        self._thread.start()
        try:
            started.result(START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close every connection, end every command and the thread; harmless when stopped already."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # closed: it did not come up
                self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join()

    async def _serve(self, started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        acceptors: list[asyncssh.SSHAcceptor] = []
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            operator, pins = _key(self.identity_file), []
            for name in self.names:
                key = _key(self.root / f"{name}.key")
                acceptors.append(await self._listen(name, key, operator.public_data))
                self.ports[name] = acceptors[-1].get_port()
                public = key.export_public_key().decode().strip()
                pins.append(f"[{ADDRESS}]:{self.ports[name]} {public}\n")
            _write(self.known_hosts, "".join(pins).encode())
            started.set_result(None)
            await self._stopping.wait()
        except Exception as error:  # noqa: BLE001  # raised again by start(), in the caller's thread
            started.set_exception(error)
        finally:
            await self._close(acceptors)

    async def _listen(self, name: str, key: asyncssh.SSHKey, operator: bytes) -> asyncssh.SSHAcceptor:
        import asyncssh

        connections, home = self._connections, self.root / "hosts" / name
        home.mkdir(parents=True, exist_ok=True)

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                self._connection = conn
                connections.add(conn)

            def connection_lost(self, exc: Exception | None) -> None:
                connections.discard(self._connection)

            def public_key_auth_supported(self) -> bool:
                return True

            def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
                return key.public_data == operator

        def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
            task = asyncio.get_running_loop().create_task(_run(process, home))
            self._commands.add(task)
            task.add_done_callback(self._commands.discard)

        return await asyncssh.listen(
            ADDRESS,
            0,
            server_factory=Server,
            server_host_keys=[key],
            process_factory=run,
            encoding=None,
            allow_pty=False,
            line_editor=False,
            agent_forwarding=False,
            login_timeout=LOGIN_TIMEOUT_S,
        )

    async def _close(self, acceptors: Sequence[asyncssh.SSHAcceptor]) -> None:
        for acceptor in acceptors:
            acceptor.close()
        connections, commands = list(self._connections), list(self._commands)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.wait_closed() for connection in connections))
        if commands:
            await asyncio.wait(commands, timeout=2 * GRACE_S)
        self.ports.clear()


async def _run(process: asyncssh.SSHServerProcess[bytes], home: Path) -> None:
    """Run one command; once its channel is closed it gets the end of its input, and ``GRACE_S`` to end by itself."""
    if process.command is None or process.subsystem is not None:
        process.stderr.write(b"this host runs commands; it has no shell and no subsystems\n")
        process.exit(1)
        return
    pipe = asyncio.subprocess.PIPE
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LC_ALL": "C"}
    child = await asyncio.create_subprocess_exec(
        "sh", "-c", process.command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=home, env=env, start_new_session=True
    )
    feeding = asyncio.create_task(_feed(process, child))
    ending = asyncio.create_task(_end(process, child))
    closing = asyncio.create_task(process.wait_closed())
    try:
        await asyncio.wait({ending, closing}, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            await asyncio.wait({ending}, timeout=GRACE_S)
    finally:
        if child.returncode is None:  # not `ending.done()`: it may have broken on the closed channel, the child alive
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await asyncio.wait({ending}, timeout=GRACE_S)
        for task in (feeding, ending, closing):
            task.cancel()
        await asyncio.gather(feeding, ending, closing, return_exceptions=True)


async def _feed(process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    import asyncssh

    assert child.stdin is not None  # noqa: S101
    with contextlib.suppress(OSError, asyncssh.Error, asyncssh.SignalReceived, asyncssh.BreakReceived):
        while data := await process.stdin.read(CHUNK):
            child.stdin.write(data)
            await child.stdin.drain()
    child.stdin.close()


async def _end(process: asyncssh.SSHServerProcess[bytes], child: asyncio.subprocess.Process) -> None:
    """Pass the output on until it ends, then the exit status."""
    assert child.stdout is not None  # noqa: S101
    assert child.stderr is not None  # noqa: S101
    await asyncio.gather(_pass_on(child.stdout, process.stdout), _pass_on(child.stderr, process.stderr))
    status = await child.wait()
    if process.is_closing():
        return
    if status < 0:
        process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
    else:
        process.exit(status)


async def _pass_on(source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
    import asyncssh

    while data := await source.read(CHUNK):
        if not sink.is_closing():  # else drop it: nobody listens, and the command must not block on a full pipe
            with contextlib.suppress(OSError, asyncssh.Error):
                sink.write(data)
                await sink.drain()


def _key(path: Path) -> asyncssh.SSHKey:
    """Read the private key at ``path``, or make it."""
    import asyncssh

    if not path.exists():
        _write(path, asyncssh.generate_private_key("ssh-ed25519").export_private_key())
    return asyncssh.read_private_key(path)


def _write(path: Path, content: bytes) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with open(new, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
    new.replace(path)
