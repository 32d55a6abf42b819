"""A fleet logged in as root for set-up alone: every host's agent becomes the owner of what it makes before all else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from ..core.errors import HostError
from ..core.facts import Owned
from ..core.requests import Request
from .fleet import Fleet, Seen

M = TypeVar("M", bound=BaseModel)


class OwningFleet(Fleet):
    """``owning`` is each host's first request, whatever else is asked: what follows is never done as root.

    What was made or given away for it stands first in the next answer that tells what was ``changed``.
    """

    def __init__(self, *arguments: Any, owning: Mapping[str, Request], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._owning = owning
        self._owned: dict[str, tuple[str, ...]] = {}

    def ask(
        self,
        requests: Mapping[str, Sequence[Request]],
        reply: type[M],
        *,
        seen: Seen | None = None,
        together: bool = False,
    ) -> dict[str, M | HostError]:
        """Have every host's agent become the owner, then ask it as ``Fleet.ask`` does."""
        became = super().ask({name: (self._owning[name],) for name in requests}, Owned)
        failed = {name: answer for name, answer in became.items() if isinstance(answer, HostError)}
        for name, answer in became.items():
            if not isinstance(answer, HostError):
                self._owned[name] = (*self._owned.get(name, ()), *answer.owned)
        rest = {name: (self._owning[name], *each) for name, each in requests.items() if name not in failed}
        answers = super().ask(rest, reply, seen=seen)
        return {name: failed[name] if name in failed else self._with_owned(name, answers[name]) for name in requests}

    def _with_owned(self, name: str, answer: M | HostError) -> M | HostError:
        if isinstance(answer, HostError) or not hasattr(answer, "changed"):
            return answer
        return answer.model_copy(update={"changed": (*self._owned.pop(name, ()), *answer.changed)})
