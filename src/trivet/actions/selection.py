"""Who is treated: pure arithmetic over keys in their order."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

Group = Literal["treated", "control", "over_limit", "cooldown", "suppressed"]

GROUPS: tuple[Group, ...] = ("treated", "control", "over_limit", "cooldown", "suppressed")


@dataclass(frozen=True, slots=True)
class Rules:
    """How candidates are told apart.

    Attributes:
        action: The action's name: two actions hold out different people.
        limit: At most so many are treated; None for all.
        control: The share that is held out.
    """

    action: str
    limit: int | None = None
    control: float = 0.0


@dataclass(frozen=True, slots=True)
class Assigned:
    """What became of one candidate.

    Attributes:
        place: Its place among the candidates, from 0, the best first.
        key: Its key; see `key_text`.
        group: The group it is in.
    """

    place: int
    key: str
    group: Group


def key_text(names: Sequence[str], row: Mapping[str, Any]) -> str:
    """Return a row's key as a JSON object, as the results keep keys."""
    return msgspec.json.encode({name: row[name] for name in names}).decode()


def assign(
    candidates: Iterable[str],
    rules: Rules,
    *,
    cooling: Container[str] = (),
    suppressed: Container[str] = (),
) -> Iterator[Assigned]:
    """Assign every candidate to one group; one that comes twice counts where it came first.

    Those held out come from the same ranks as the treated: once the limit is reached, nobody is
    held out any more, so the two groups can be compared.

    Args:
        candidates: Keys, the best first.
        rules: How they are told apart.
        cooling: Keys that were chosen lately, to be treated or held out.
        suppressed: Keys to leave out.
    """
    treated = 0
    seen: set[str] = set()
    for place, key in enumerate(candidates):
        if key in seen:
            continue
        seen.add(key)
        group: Group
        if key in suppressed:
            group = "suppressed"
        elif key in cooling:
            group = "cooldown"
        elif rules.limit is not None and treated >= rules.limit:
            group = "over_limit"
        elif held_out(rules.action, key, rules.control):
            group = "control"
        else:
            group, treated = "treated", treated + 1
        yield Assigned(place, key, group)


def held_out(action: str, key: str, share: float) -> bool:
    """Say whether a key is of the control group: always the same answer for the same share.

    With a larger share, those held out before are among those held out then.
    """
    digest = hashlib.sha256(f"{action}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def idempotency_key(project: str, action: str, start: str, key: str) -> str:
    """Name a delivery: the same text whenever it is intended again."""
    return hashlib.sha256("\0".join((project, action, start, key)).encode()).hexdigest()[:32]
