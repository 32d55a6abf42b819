"""What the log of a run says of one step; secrets are left out, whoever wrote them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .errors import HostError
from .hosts import fold
from .requests import Request
from .text import printable

TEXT_MOST = 1000
HIDDEN = "***"
SECRETS = (
    (re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]*@"), rf"\1:{HIDDEN}@"),  # a url's password
    (re.compile(r"-----BEGIN [^-]+-----.*?(?:-----END [^-]+-----|\Z)", re.DOTALL), HIDDEN),  # a key
    (re.compile(r"\b([A-Z][A-Z0-9_]{2,})=(?:\"[^\"]*\"|'[^']*'|\S+)"), rf"\1={HIDDEN}"),  # an environment variable
    (re.compile(r"(?i)\b((?:[a-z_-]*)(?:password|passwd|secret|token|api[_-]?key)\"?\s*[:=]\s*)\S+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic) [A-Za-z0-9+/._~-]{8,}=*"), rf"\1 {HIDDEN}"),
)


def asked(
    requests: Mapping[str, Sequence[Request]], answers: Mapping[str, object], seconds: float
) -> dict[str, object]:
    """Tell what machines were asked and how it ended; equal ends are folded, and nothing of what was sent is told."""
    ends: dict[tuple[str, str], list[str]] = {}
    for name in requests:
        answer = answers.get(name)
        failed = (answer.code, str(answer)) if isinstance(answer, HostError) else ("ok", "")
        ends.setdefault(failed if name in answers else ("no answer yet", ""), []).append(name)
    return {
        "verbs": list(dict.fromkeys(request.verb for each in requests.values() for request in each)),
        "seconds": round(seconds, 3),
        "outcomes": [
            {"outcome": code, "hosts": fold(names), **({"reason": reason} if reason else {})}
            for (code, reason), names in ends.items()
        ],
    }


def harmless(value: object) -> object:
    """Return a value for the log: texts without secrets and control bytes, each cut to ``TEXT_MOST`` characters."""
    if isinstance(value, str):
        for secret, instead in SECRETS:
            value = secret.sub(instead, value)
        return printable(value, TEXT_MOST)
    if isinstance(value, Mapping):
        return {str(key): harmless(each) for key, each in value.items()}
    if isinstance(value, Sequence):
        return [harmless(each) for each in value]
    return value
