"""The configuration of one environment: TOML in, frozen values out, and all mistakes at once.

``config/example.toml`` documents every key; a test keeps it and the schema together.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import get_args, get_origin

from pydantic import ValidationError

from .config_checks import problems_across
from .config_models import MirrorConfig, Settings, SourceConfig, SshConfig, Table, TargetsConfig
from .config_problems import nearest, sentence
from .errors import ConfigError, UsageError
from .release import ENVIRONMENT
from .text import printable

__all__ = [
    "ASIDE",
    "MirrorConfig",
    "Settings",
    "SourceConfig",
    "SshConfig",
    "TargetsConfig",
    "choose_environment",
    "known_keys",
    "parse",
]

ASIDE = frozenset({"example", "demo", "lab", "vagrant"})
"""Environments that are never meant when none is named."""


def parse(text: str, environment: str, where: str) -> Settings:
    """Read ``text`` as the configuration of ``environment``; raise ConfigError with every problem, not the first.

    ``where`` is what messages call the file.
    """
    raw = _read(text, where)
    problems: list[str] = []
    if not ENVIRONMENT.fullmatch(environment):
        problems.append(_malformed(environment))
    if "environment" in raw:
        problems.append("environment: unknown key; the file's name says the environment")
    settings = None
    try:
        settings = Settings.model_validate({**raw, "environment": environment})
    except ValidationError as error:
        keys = known_keys()
        problems += [sentence(finding, raw, keys) for finding in error.errors(include_url=False)]
    problems += problems_across(raw)
    if problems or settings is None:
        raise ConfigError(where, tuple(dict.fromkeys(problems)))
    return settings


def choose_environment(available: Sequence[str], asked: str | None, from_variable: str | None) -> str:
    """Return the environment that is meant: ``--env``, else ``SKEIN_ENV``, else the only one that is not aside.

    Raise UsageError, which lists the environments, where that leaves none or several, or names one that is not there.
    """
    named = asked if asked is not None else from_variable or None
    everything = ", ".join(sorted(available)) or "none yet; copy config/example.toml"
    if named is None:
        real = [name for name in available if name not in ASIDE]
        if len(real) == 1:
            return real[0]
        raise UsageError(f"say which environment is meant with --env or SKEIN_ENV; there are: {everything}")
    if not ENVIRONMENT.fullmatch(named):
        raise UsageError(f"{_malformed(named)}; there are: {everything}")
    if named not in available:
        source = "--env" if asked is not None else "SKEIN_ENV"
        guess = nearest(named, available)
        raise UsageError(f"{source}: no environment is named {named!r}{guess}; there are: {everything}")
    return named


def known_keys() -> dict[str, tuple[str, ...]]:
    """Return the keys of every table by the table's path; a group's name is ``*`` there."""
    tables = dict(_tables(Settings, ""))
    tables[""] = tuple(key for key in tables[""] if key != "environment")
    return tables


def _tables(model: type[Table], path: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield path, tuple(model.model_fields)
    for key, field in model.model_fields.items():
        inner = _table_in(field.annotation)
        if inner:
            by_name = ".*" if get_origin(field.annotation) is dict else ""
            yield from _tables(inner, f"{path}.{key}{by_name}".lstrip("."))


def _table_in(annotation: object) -> type[Table] | None:
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    return next((found for part in get_args(annotation) if (found := _table_in(part))), None)


def _read(text: str, where: str) -> Mapping[str, object]:
    try:
        return {key: _with_tuples(value) for key, value in tomllib.loads(text).items()}
    except RecursionError as error:
        raise ConfigError(where, ("not valid TOML: nested too deeply",)) from error
    except ValueError as error:
        message = printable(str(error))
        raise ConfigError(where, (f"not valid TOML: {message[:1].lower()}{message[1:]}",)) from error


def _with_tuples(value: object) -> object:
    """Freeze lists into tuples, as the schema, which is strict, wants them."""
    if isinstance(value, list):
        return tuple(_with_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return value


def _malformed(environment: str) -> str:
    return f"{printable(repr(environment), 80)} is no environment: up to 32 lower-case letters, digits and dashes"
