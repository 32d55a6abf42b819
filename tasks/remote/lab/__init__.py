"""A fleet of real OpenSSH hosts on one Linux machine, for tests and for people; nothing of the machine is changed."""

from ...core.errors import LabError
from .files import wait_until
from .machines import Lab
from .spaces import missing, sweep

__all__ = ["Lab", "LabError", "missing", "sweep", "wait_until"]
