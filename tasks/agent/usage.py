"""What this session took so far, for those who look for what it costs."""

from __future__ import annotations

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from .place import Place
    from .problem import Json
    from .wire import Wire


def usage(wire: Wire, place: Place, request: Json) -> Json:
    """Return {"own_ms", "children_ms"}: processor time of this process, and of those that it started and that ended."""
    import resource

    found = {}
    for name, whose in (("own_ms", resource.RUSAGE_SELF), ("children_ms", resource.RUSAGE_CHILDREN)):
        used = resource.getrusage(whose)
        found[name] = 1000 * (used.ru_utime + used.ru_stime)
    return found
