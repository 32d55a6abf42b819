"""What an agent does to a repository or to keys, done here: in this process, and answered as a host would answer."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel

from ..agent.main import KEYS, ON_MIRRORS
from ..agent.problem import Problem, explain
from ..agent.wire import Wire
from ..core.errors import RepositoryError
from ..core.requests import Request

M = TypeVar("M", bound=BaseModel)
VERBS = {**ON_MIRRORS, **KEYS}


def ask_here(request: Request, reply: type[M]) -> M | RepositoryError:
    """Do what an agent would be asked for, and return its answer, or why there is none."""
    try:
        return reply.model_validate(VERBS[request.verb](Wire(), dict(request.fields)))
    except Problem as problem:
        return RepositoryError(str(problem))
    except OSError as error:
        return RepositoryError(str(explain(error)))
