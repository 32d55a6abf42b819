"""What the agent needs of contextlib, re, json and hashlib: to import those costs more than to start Python.

What is taken from below them, ``_json`` and ``_sha1``, is CPython's own; where it is not there, they are imported.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Optional, Protocol, Type, Union

    class Hash(Protocol):
        """A digest in the making."""

        def update(self, data: bytes) -> None: ...  # noqa: D102
        def hexdigest(self) -> str: ...  # noqa: D102


LARGE = 1 << 20  # bytes; OpenSSL hashes more in less time than it takes to load


class suppress:  # noqa: N801 - contextlib's name
    """Leave the block silently where one of these errors is raised."""

    def __init__(self, *kinds: Type[BaseException]) -> None:
        self.kinds = kinds

    def __enter__(self) -> None:
        """Nothing needs to be prepared."""

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], at: Optional[TracebackType]
    ) -> bool:
        """Tell whether that is all about it."""
        return kind is not None and issubclass(kind, self.kinds)


class Pattern:
    """A regular expression that is compiled when it is first used."""

    def __init__(self, text: Union[str, bytes]) -> None:
        self._text = text

    def __getattr__(self, name: str) -> Any:
        """Return what the compiled one has of that name."""
        import re

        return getattr(re.compile(self._text), name)


class _Plain:
    """How json.loads reads what it is not told to read otherwise."""

    strict, object_hook, object_pairs_hook, memo = True, None, None, None
    parse_float, parse_int, parse_constant = float, int, float


def _refuse(value: object) -> None:
    raise TypeError("%s has no form in JSON" % type(value).__name__)


_scan: Any = None
_encode: Any = None
try:
    import _json

    _scan = _json.make_scanner(_Plain)  # type: ignore[arg-type]  # it asks for no more than these names
    _encode = _json.make_encoder(None, _refuse, _json.encode_basestring_ascii, None, ":", ",", False, False, True)
except (ImportError, AttributeError, TypeError):
    _scan = None


def loads(text: Union[str, bytes, bytearray]) -> Any:
    """Return what a JSON text says; raise ValueError or RecursionError where it is none."""
    if _scan is None:
        import json

        return json.loads(text)
    text = (text if isinstance(text, str) else text.decode("utf-8")).strip(" \t\r\n")
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("no JSON") from None
    if end != len(text):
        raise ValueError("more than one JSON text")
    return value


def dumps(value: object) -> str:
    """Return a value as JSON, ASCII alone, on one line."""
    if _scan is None:
        import json

        return json.dumps(value)
    return "".join(_encode(value, 0))


def digest(kind: str, size: int) -> Hash:
    """Return an empty digest, "sha1" or "sha256", for about so many bytes."""
    made: Hash
    if size <= LARGE and "hashlib" not in sys.modules:
        for name in ("_" + kind, "_sha2"):  # as Python names them up to 3.11, and since
            try:
                made = getattr(__import__(name), kind)()
            except (ImportError, AttributeError):
                continue
            return made
    import hashlib

    made = hashlib.new(kind)
    return made
