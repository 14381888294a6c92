"""Sections of TOML held to the types of frozen dataclasses; what is wrong is gathered."""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from trivet.durations import parse_duration

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_WORD = re.compile(r"\w+")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}")

S = TypeVar("S")


class SectionReader:
    """Turns parsed sections into values.

    Args:
        file: The file they are from.
        environment: Where ``${NAME}`` is looked up.

    Attributes:
        findings: What is wrong, one line a mistake.
    """

    def __init__(self, file: Path, environment: Mapping[str, str]) -> None:
        self.findings: list[str] = []
        self._file = file
        self._environment = environment

    def family(self, name: str, kind: type[S], sections: Any) -> Iterator[tuple[str, S]]:
        if not isinstance(sections, dict) or not all(
            isinstance(s, dict) for s in sections.values()
        ):
            self.find(f"[{name}]", f"write one section for each, such as [{name}.NAME]")
            return
        for each, parts in sections.items():
            where = f"[{name}.{each}]"
            if not _NAME.fullmatch(each):
                self.find(
                    where,
                    "rename it: a name has lower-case letters, digits, - and _, 41 at most, "
                    "and begins with a letter",
                )
                continue
            value = self.section(where, kind, parts, name=each)
            if value is not None:
                yield each, value

    def section(self, where: str, kind: type[S], parts: Any, **given: Any) -> S | None:
        """Build one section; `given` are the values that the file does not write."""
        if not isinstance(parts, dict):
            self.find(where, "this is a section, not a value")
            return None
        fields = [f for f in dataclasses.fields(kind) if f.name not in given]  # type: ignore[arg-type]
        hints = get_type_hints(kind)
        before = len(self.findings)
        self.refuse_unknown(where, parts, [f.name for f in fields])
        values, lacking = dict(given), False
        for f in fields:
            found = len(self.findings)
            needed = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            if f.name in parts:
                values[f.name] = self._value(f"{where} {f.name}", parts[f.name], hints[f.name])
            elif needed:
                self.find(where, f"{f.name} is missing; write {f.name} = {_example(hints[f.name])}")
            if len(self.findings) > found:
                values.pop(f.name, None)
                lacking |= needed
        if lacking:
            return None
        try:  # with defaults for what is wrong already: the others have mistakes of their own
            built = kind(**values)
        except ValueError as error:
            told = parts.keys() - values.keys()
            for line in str(error).splitlines():
                if told.isdisjoint(_WORD.findall(line)):
                    key, _, what = line.partition(": ")
                    self.find(f"{where} {key}", what)
            return None
        return None if len(self.findings) > before else built

    def _value(self, where: str, raw: Any, hint: Any) -> Any:
        """Hold one value to the type of its attribute."""
        before = len(self.findings)
        value = self._expanded(where, raw)
        if len(self.findings) > before:
            return None
        try:
            if dt.timedelta in (hint, *get_args(hint)):
                return parse_duration(msgspec.convert(value, str))
            if dt.date in get_args(hint):  # TOML has dates of its own
                return value if isinstance(value, dt.date) else dt.datetime.fromisoformat(value)
            # What came from the environment is text, whatever it says.
            return msgspec.convert(value, hint, strict=value == raw)
        except (msgspec.ValidationError, TypeError):
            choice = get_origin(hint) is Literal and isinstance(value, str)
            self.find(where, f"write {_example(hint)}, not {value if choice else _kind(value)}")
        except ValueError as error:
            is_duration = dt.timedelta in (hint, *get_args(hint))  # its error says what to write
            self.find(where, str(error) if is_duration else f"{error}; write {_example(hint)}")
        return None

    def _expanded(self, where: str, value: Any) -> Any:
        if isinstance(value, str):
            return _VARIABLE.sub(lambda match: self._variable(where, match[1]), value)
        if isinstance(value, list):
            return [self._expanded(where, item) for item in value]
        if isinstance(value, dict):
            return {key: self._expanded(f"{where}.{key}", item) for key, item in value.items()}
        return value

    def _variable(self, where: str, name: str) -> str:
        if name not in self._environment:
            self.find(where, f"the environment variable {name} is not set; export {name}=…")
        return self._environment.get(name, "")

    def refuse_unknown(self, where: str, parts: Mapping[str, Any], known: list[str]) -> None:
        for key in parts:
            if key not in known:
                what = f"unknown {'key' if where else 'section'} {key!r}{nearest(key, known)}"
                self.find(where, f"{what}; there are {', '.join(known)}")

    def find(self, where: str, what: str) -> None:
        self.findings.append(": ".join(part for part in (str(self._file), where, what) if part))


def _example(hint: Any) -> str:
    """Return a value of a type, as one writes it in TOML."""
    kinds = (hint, *get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(f'"{choice}"' for choice in get_args(hint))
    for kind, example in (
        (tuple, 'a list of texts, such as ["…"]'),
        (dt.timedelta, 'a length of time, such as "90s", "15m", "6h" or "30d"'),
        (dt.date, "a date, such as 2026-01-01"),
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number"),
    ):
        if kind in kinds or get_origin(hint) is kind:
            return example
    return 'a text, such as "…"'


def _kind(value: Any) -> str:
    """Name the type of a TOML value; the value itself may be a secret."""
    names = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
    names |= {list: "this list", dict: "a section"}
    return names.get(type(value), "a date or time")


def names_in(document: Mapping[str, Any], *families: str) -> list[str]:
    """Return the names of all sections of some families, also of those that have mistakes."""
    found = (document.get(family) for family in families)
    return [name for sections in found if isinstance(sections, dict) for name in sections]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that one may have been meant for, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
