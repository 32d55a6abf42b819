"""The same tasks for `fab` that `invoke` finds in `tasks/`."""

from tasks import ns

__all__ = ["ns"]
