"""What is wrong with a configuration, in plain sentences: the schema's findings in the operator's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from .text import printable

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

BARE = re.compile(r"[A-Za-z0-9_-]+")

PLAIN = {
    "missing": "missing; it must be given",
    "tuple_type": "must be a list, not {value}",
    "model_type": "must be a table, not {value}",
    "dict_type": "must be a table, not {value}",
    "string_type": "must be text in quotes, not {value}",
    "int_type": "must be a whole number, not {value}",
    "bool_type": "must be true or false, not {value}",
    "greater_than_equal": "must be at least {ge}, not {value}",
    "less_than_equal": "must be at most {le}, not {value}",
    "value_error": "{error}",
}
"""The kinds of finding that the schema can have, each as a sentence."""


def nearest(word: str, words: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the one of ``words`` most like ``word``; nothing where none is like it."""
    close = get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def dotted(parts: Iterable[int | str]) -> str:
    """Write the path of a key as TOML does, with the place in a list in brackets, counted from 0."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += ("." if path else "") + (part if BARE.fullmatch(part) else f'"{printable(part, 80)}"')
    return path


def sentence(finding: ErrorDetails, raw: object, keys: Mapping[str, tuple[str, ...]]) -> str:
    """Say one finding of the schema as ``key.path: what is wrong``; ``keys`` names the keys of every table."""
    kind, context = finding["type"], finding.get("ctx", {})
    place = _place(finding["loc"], raw)
    if kind == "extra_forbidden":
        return f"{dotted(place)}: unknown key{_where_it_belongs(place, keys)}"
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", str(context.get("expected")))
        return f"{dotted(place)}: must be one of {', '.join(words)}{nearest(str(finding['input']), words)}"
    if kind == "tuple_type" and isinstance(finding["input"], Mapping):
        return f"{dotted(place)}: must be a list; where tables are wanted, write [[{dotted(place)}]]"
    plain = PLAIN.get(kind, finding["msg"].replace("{", "{{").replace("}", "}}"))
    return f"{dotted(place)}: {plain.format(value=_shown(finding['input']), **context)}"


def table_name(place: Iterable[int | str]) -> str:
    """Return a table's name among the known ones: places in lists are left out, a group's name is ``*``."""
    names = [part for part in place if isinstance(part, str)]
    if names[:2] == ["targets", "groups"] and len(names) > 2:
        names[2] = "*"
    return ".".join(names)


def _where_it_belongs(place: tuple[int | str, ...], keys: Mapping[str, tuple[str, ...]]) -> str:
    key, home = str(place[-1]), table_name(place[:-1])
    guess = nearest(key, keys.get(home, ()))
    elsewhere = [table for table, known in keys.items() if key in known and table not in ("", home)]
    return guess or (f" (it belongs in [{elsewhere[0]}])" if elsewhere else "")


def _place(location: tuple[int | str, ...], raw: object) -> tuple[int | str, ...]:
    """Cut a finding's location down to what stands in the file: a name that stands for a table has no keys."""
    place: list[int | str] = []
    for part in location:
        if part == "[key]" or not isinstance(raw, (Mapping, tuple)):
            break
        place.append(part)
        raw = raw.get(str(part)) if isinstance(raw, Mapping) else raw[int(part)]
    return tuple(place)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, (tuple, list)):
        return "a list"
    return f"'{printable(value, 40)}'" if isinstance(value, str) else printable(str(value), 40)
