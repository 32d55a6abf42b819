"""Failpoints of this process and of the agents it starts, from one environment variable."""

from __future__ import annotations

from collections.abc import Mapping

from ..agent import failpoints
from ..core.errors import UsageError

VARIABLE = "SKEIN_FAILPOINT"

failpoint = failpoints.failpoint


def arm(environment: Mapping[str, str]) -> str:
    """Arm the deployer's failpoint, if it is one of its own, and return the specification for the agents."""
    text = environment.get(VARIABLE, "")
    if not text:
        return ""
    try:
        name, _, occurrence, action = failpoints.parse(text)
    except ValueError as error:
        raise UsageError(f"{VARIABLE}: {error}") from error
    if name.startswith("deploy."):
        failpoints.arm(f"{name}:{occurrence}:{action}")
    return text
