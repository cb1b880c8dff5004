"""A day of traffic from a seed: what is told, corrected and supplied, and a dictionary beside it.

The dictionary knows nothing of Farebox: an event is what it counts as, an amendment takes its
place, a void empties it, and a backfill fills its range.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.metering.gate.plain import Value

HOUR: Final = timedelta(hours=1)
SOURCE: Final = "traffic"
# A token costs so many billionths of a dollar in the morning; in the afternoon twice as many.
NANO: Final = {"m-1": (2_500, 10_000), "m-2": (150, 600)}
# On these an event counts as a number, which may be corrected by itself.
NUMBERS: Final = ("calls", "tokens", "peak", "seats", "cost")


@dataclass(slots=True)
class Fact:
    """An event as the dictionary has it; `said`: quantities that were corrected by themselves."""

    subject: str
    at: datetime
    data: dict[str, Any]
    said: dict[str, int] = field(default_factory=dict)
    void: bool = False


@dataclass(frozen=True, slots=True)
class Fix:
    """A correction of an event: other data, another quantity by meter, or neither: it is void."""

    id: str
    data: dict[str, Any] | None = None
    said: dict[str, int] | None = None


@dataclass(slots=True)
class Range:
    """What a backfill is of; `facts` by id are supplied."""

    mode: str
    subjects: list[str]
    start_at: datetime
    end_at: datetime
    facts: dict[str, Fact] = field(default_factory=dict)

    def has(self, fact: Fact) -> bool:
        """Whether an event lies in it."""
        return fact.subject in self.subjects and self.start_at <= fact.at < self.end_at


@dataclass(slots=True)
class Day:
    """24 hours until now: who did what and when, how it was told, and what was said afterwards."""

    start_at: datetime
    subjects: list[str]
    facts: dict[str, Fact] = field(default_factory=dict)  # by id, as they are at the end
    events: list[dict[str, Any]] = field(default_factory=list)
    posts: list[list[dict[str, Any]]] = field(default_factory=list)
    fixes: list[Fix] = field(default_factory=list)  # of one event, in their order
    added: Range = field(init=False)  # while the traffic comes
    replaced: Range = field(init=False)  # when all of it has come and was corrected

    def __post_init__(self) -> None:
        at = self.start_at
        self.added = Range("add", self.subjects[1:], at + 15 * HOUR, at + 17 * HOUR)
        self.replaced = Range("replace", self.subjects[:2], at + 6 * HOUR, at + 9 * HOUR)

    @property
    def noon(self) -> datetime:
        """When prices and a filter change."""
        return self.start_at + 12 * HOUR


def make_day(seed: int, *, subjects: list[str], events: int, start_at: datetime) -> Day:
    """A day of so many events of these customers."""
    day, draw = Day(start_at, subjects), random.Random(seed)
    told = []
    for number in range(events):
        # Whole seconds for some, so that readings of one instant meet.
        at = start_at + timedelta(seconds=draw.randrange(86_400))
        at += timedelta(milliseconds=draw.choice([0, draw.randrange(1_000)]))
        fact = Fact(draw.choice(subjects), at, _data(draw))
        day.facts[f"e{number}"] = fact
        day.events.append(_event(f"e{number}", fact))
        late = timedelta(seconds=draw.randrange(300))
        if draw.random() < 0.1:
            late += timedelta(hours=draw.randrange(1, 20))
        told.append((at + late, number))
    _tell(day, draw, [day.events[number] for _, number in sorted(told)])
    _correct(day, draw)
    _supply(day, draw)
    return day


def start_of_day() -> datetime:
    """24 hours ago."""
    return datetime.now(UTC).replace(microsecond=0) - 24 * HOUR


def counted_as(key: str, fact: Fact, *, noon: datetime) -> Value | None:
    """What an event counts as on a meter; None where it does not."""
    data, morning = fact.data, fact.at < noon
    if fact.void:
        return None
    if key in fact.said:
        return fact.said[key]
    match key:
        case "calls":
            return 1
        case "tokens" | "peak":
            return int(data["input_tokens"])
        case "seats":
            return int(data["seats"])
        case "users":
            return str(data["user"])
        case "cost":
            of_input, of_output = NANO[data["model"]]
            cost = data["input_tokens"] * of_input + data["output_tokens"] * of_output
            return int(cost if morning else 2 * cost)
        case _:
            counts = data["region"] == "eu" if morning else data["region"] != "us"
            return 1 if counts else None


def _data(draw: random.Random) -> dict[str, Any]:
    return {
        "model": draw.choice(list(NANO)),
        "region": draw.choice(["eu", "us", "de"]),
        "user": f"u{draw.randrange(40)}",
        "seats": draw.randrange(20),
        "input_tokens": draw.randrange(3_000),
        "output_tokens": draw.randrange(900),
    }


def _event(id_: str, fact: Fact) -> dict[str, Any]:
    common = {"specversion": "1.0", "source": SOURCE, "type": "traffic", "id": id_}
    return common | {"subject": fact.subject, "time": fact.at.isoformat(), "data": fact.data}


def _tell(day: Day, draw: random.Random, order: list[dict[str, Any]]) -> None:
    """Posts of all sizes; whole ones are sent again, at once or later, and events in others."""
    place = 0
    while place < len(order):
        size = draw.choice([1, 2, 10, max(len(order) // 30, 40)])
        day.posts.append(order[place : place + size])
        place += size
    for post in draw.sample(day.posts, len(day.posts) // 5):
        day.posts.insert(draw.randrange(len(day.posts)), list(post))
    for event in draw.sample(day.events, len(day.events) // 10):
        draw.choice(day.posts).append(event)


def _correct(day: Day, draw: random.Random) -> None:
    """One event in sixty is corrected, some again and again; a void is the last word."""
    for id_ in draw.sample(sorted(day.facts), len(day.facts) // 60):
        for _ in range(draw.choice([1, 1, 2, 3])):
            kind, fact = draw.choice(["data", "data", "said", "void"]), day.facts[id_]
            if kind == "data":
                fact.data, fact.said = _data(draw), {}
                day.fixes.append(Fix(id_, data=fact.data))
            elif kind == "said":
                said = {key: draw.randrange(5_000) for key in draw.sample(NUMBERS, 2)}
                fact.said = fact.said | said
                day.fixes.append(Fix(id_, said=said))
            else:
                fact.void = True
                day.fixes.append(Fix(id_))
                break


def _supply(day: Day, draw: random.Random) -> None:
    """New events of one range; of the other some as they were, otherwise, not at all, or new."""
    for range_ in (day.added, day.replaced):
        width = int((range_.end_at - range_.start_at).total_seconds())
        for number in range(len(day.events) // 40):
            at = range_.start_at + timedelta(seconds=draw.randrange(width))
            fact = Fact(draw.choice(range_.subjects), at, _data(draw))
            range_.facts[f"{range_.mode}{number}"] = fact
    first = {each["id"]: each["data"] for each in day.events}
    for id_, fact in day.facts.items():
        if not day.replaced.has(fact):
            continue
        kind = draw.choice(["first", "other", "gone"])
        if kind == "gone":
            fact.void = True
            continue
        data = first[id_] if kind == "first" else _data(draw)
        day.replaced.facts[id_] = Fact(fact.subject, fact.at, data)
        if not fact.void:  # what is void stays so
            fact.data, fact.said = data, {}
    for range_ in (day.added, day.replaced):
        day.facts = range_.facts | day.facts
