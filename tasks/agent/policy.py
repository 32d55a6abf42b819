"""What a restricted deploy key may ask: to deploy what the mirrors have, to the place that set-up wrote down."""

from __future__ import annotations

from .problem import Problem

TYPE_CHECKING = False  # so that no host imports typing
if TYPE_CHECKING:
    from typing import Container

    from .problem import Json

PLACE = ("deploy_to", "link", "environment")
RELEASES = "refs/skein/releases/%s/"
RULES = ("linked_dirs", "linked_files", "keep")


def permit(policy: Json, verb: str, request: Json, verbs: Container[str]) -> Json:
    """Return the request, marked ``restricted``, where ``policy`` lets it pass; else raise Problem "restricted".

    The place cannot be chosen, ``after_flip`` runs the one command that was written down, and releases come from the
    mirrors that were, each by the name that it has there among those of this environment: whoever has the key alone can
    neither run a program nor bring a file of his own, nor one of another environment.
    """
    if verb == "open":
        wrong = [name for name in PLACE if request.get(name) != policy[name]]
        wrong += ["failpoint"] if request.get("failpoint") else []
    elif verb not in verbs:
        raise Problem("restricted", "a restricted key may not ask for %r: that takes one that is not" % verb)
    elif verb == "after_flip":
        wrong = ["after_flip"] if request["command"] != policy["after_flip"] else []
    else:
        wrong = [each["url"] for each in request.get("mirrors", ()) if each["url"] not in policy["mirrors"]]
        wrong += [name for name in ("payload", "swarm") if name in request]
        own = RELEASES % policy["environment"]
        wrong += ["ref"] if not request.get("ref", own).startswith(own) else []
        wrong += [name for name in RULES if name in request and request[name] != policy[name]]
    if wrong:
        told = "a restricted key may not use another %s than set-up wrote down: run fab setup with one that is not"
        raise Problem("restricted", told % ", ".join(wrong))
    return dict(request, restricted=True)
