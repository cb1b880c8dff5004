"""What all customers share, in memory: meters, offers, gateways; true for one version."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from metering.domain.meters import Aggregation, MeterTerms, filters_from
from metering.domain.offers import Offer, OfferTerms
from metering.domain.prices import PriceBook, PriceSchedule
from metering.domain.spending import Curve
from metering.gate.wire import Problem

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(microseconds: int | None) -> datetime | None:
    """The aware UTC datetime of microseconds of Unix time."""
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A gateway's credential and whose it is."""

    gateway_id: int
    gateway: str
    expires_at: datetime | None
    revoked_at: datetime | None
    disabled: bool


@dataclass(frozen=True, slots=True)
class Route:
    """What a forwarded request counts as: the first route of its gateway that matches."""

    method: str
    pattern: re.Pattern[str]
    meter: str
    quantity: int | None
    mode: str

    def matches(self, method: str, path: str) -> bool:
        """Whether a request of that method and path (without its query) takes this route."""
        return self.method in ("*", method) and self.pattern.fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Meters, offers and gateways at one version of the catalogue."""

    version: int
    meters: Mapping[str, MeterTerms] = field(default_factory=dict)
    meters_by_id: Mapping[int, MeterTerms] = field(default_factory=dict)
    meters_by_type: Mapping[str, Sequence[MeterTerms]] = field(default_factory=dict)
    features: frozenset[str] = frozenset()
    offers: Mapping[str, Sequence[Offer]] = field(default_factory=dict)  # by currency
    gateways: Mapping[bytes, GatewayKey] = field(default_factory=dict)
    routes: Mapping[int, Sequence[Route]] = field(default_factory=dict)
    changed: Mapping[int, Sequence[MeterTerms]] = field(default_factory=dict)
    counts_members: bool = False  # whether any meter is unique
    # By how much the process's clock was ahead of the database's when this was read.
    ahead: timedelta = field(default=timedelta(0), compare=False)

    def meter_at(self, meter_id: int, at: datetime) -> MeterTerms:
        """The terms by which a meter counts what occurs at that moment."""
        steps = self.changed.get(meter_id)
        if steps is None:
            return self.meters_by_id[meter_id]
        return next(each for each in steps if each.stands_at(at))

    def offers_in(self, currency: str) -> Sequence[Offer]:
        """The plans that are sold in a currency, the cheapest first."""
        return self.offers.get(currency, ())

    def caller(self, digest: bytes, *, now: datetime) -> GatewayKey:
        """The gateway a key belongs to; raises Problem where the key is not good at that moment."""
        key = self.gateways.get(digest)
        if key is None:
            raise Problem("key_unknown", "No gateway has this key.")
        if key.disabled or key.revoked_at is not None:  # at once, by whatever clock
            raise Problem("key_revoked", f"The key of the gateway {key.gateway!r} was revoked.")
        if key.expires_at is not None and key.expires_at <= now:
            raise Problem("key_expired", f"The key of the gateway {key.gateway!r} has expired.")
        return key

    def nearest(self, name: str) -> list[str]:
        """Up to three known names that look like this one."""
        return difflib.get_close_matches(name, [*self.meters, *self.features], n=3, cutoff=0.5)


def versions_of_prices(row: Sequence[Any]) -> set[int]:
    """Which versions of price tables a row of read_catalogue.sql speaks of."""
    named = {version for _, _, version, _ in msgspec.json.decode(row[6] or "[]")}
    return named - {None}


def build_catalogue(row: Sequence[Any], books: Mapping[int, PriceBook]) -> Catalogue:
    """Make the catalogue from the one row of read_catalogue.sql and the prices of its versions."""
    version, meters, offers, gateways, features, routes, prices, read_at_us = row
    stored = msgspec.json.decode(meters or "[]")
    schedules = _schedules(msgspec.json.decode(prices or "[]"), books)
    archived = {each["id"] for each in stored if each["archived"]}
    steps = {each["id"]: _steps(each, schedules) for each in stored}
    by_type: dict[str, list[MeterTerms]] = {}
    for meter_id, terms in steps.items():
        for each in () if meter_id in archived else terms:
            by_type.setdefault(each.event_type, []).append(each)
    firsts = {meter_id: terms[0] for meter_id, terms in steps.items()}
    published: dict[str, list[Offer]] = {}
    for each in msgspec.json.decode(offers or "[]"):
        published.setdefault(each["currency"], []).append(_offer(each))
    sold = {name for found in published.values() for offer in found for name in offer.features}
    counted = {each.key: each for key, each in firsts.items() if key not in archived}
    return Catalogue(
        version=version,
        ahead=datetime.now(UTC) - (moment(read_at_us) or datetime.now(UTC)),
        meters=counted,
        meters_by_id=firsts,
        meters_by_type=by_type,
        features=frozenset(sold | set(msgspec.json.decode(features or "[]"))),
        offers=published,
        gateways={
            bytes.fromhex(digest): GatewayKey(gateway_id, name, moment(ends), moment(gone), off)
            for digest, gateway_id, name, ends, gone, off in msgspec.json.decode(gateways or "[]")
        },
        routes=_routes(msgspec.json.decode(routes or "[]"), counted),
        changed={meter_id: terms for meter_id, terms in steps.items() if len(terms) > 1},
        counts_members=any(each.aggregation is Aggregation.UNIQUE for each in firsts.values()),
    )


def _steps(
    stored: Mapping[str, Any], schedules: Mapping[int, PriceSchedule]
) -> tuple[MeterTerms, ...]:
    """The terms of a meter and of each of its later versions, in order of time."""
    said = [stored, *(stored["changes"] or ())]
    starts = [None, *(moment(each["from"]) for each in said[1:])]
    return tuple(
        MeterTerms(
            id=stored["id"],
            key=stored["key"],
            event_type=each["event_type"],
            aggregation=Aggregation(stored["aggregation"]),
            value_property=each["value_property"],
            dimensions=tuple(each["dimensions"]),
            filters=filters_from(each["filters"]),
            unit=stored["unit"],
            from_at=from_at,
            until_at=until_at,
            prices=schedules.get(each["price_table"]),
        )
        for each, from_at, until_at in zip(said, starts, [*starts[1:], None], strict=True)
    )


def _schedules(
    stored: Sequence[Sequence[Any]], books: Mapping[int, PriceBook]
) -> dict[int, PriceSchedule]:
    found: dict[int, tuple[str, list[datetime], list[PriceBook]]] = {}
    for table_id, key, version_id, start in stored:
        _, starts, versions = found.setdefault(table_id, (key, [], []))
        starts_at = moment(start)
        if starts_at is not None:  # else no version of the table is active yet
            starts.append(starts_at)
            versions.append(books[version_id])
    return {
        table_id: PriceSchedule(key, tuple(starts), tuple(versions))
        for table_id, (key, starts, versions) in found.items()
    }


def _routes(
    stored: Sequence[Sequence[Any]], meters: Mapping[str, MeterTerms]
) -> dict[int, list[Route]]:
    routes: dict[int, list[Route]] = {}
    for gateway_id, method, path, meter, quantity, mode in stored:
        # A feature takes no quantity, and 1 is what a route has that says nothing of it.
        asked = None if meter not in meters and quantity == 1 else quantity
        pattern = re.compile(".*".join(re.escape(part) for part in path.split("*")), re.DOTALL)
        routes.setdefault(gateway_id, []).append(Route(method.upper(), pattern, meter, asked, mode))
    return routes


def _offer(stored: Mapping[str, Any]) -> Offer:
    terms = stored["terms"]
    return Offer(
        plan_key=stored["plan_key"],
        plan_name=stored["plan_name"],
        meters={
            int(meter_id): tuple(map(_offered, [longest, *longest.get("also", ())]))
            for meter_id, longest in terms.get("meters", {}).items()
        },
        features=dict(terms.get("features", {})),
        period=terms.get("period", "month"),
    )


def _offered(stored: Mapping[str, Any]) -> OfferTerms:
    return OfferTerms(
        window=stored["window"],
        included=stored["included"],
        unlimited=stored["unlimited"],
        over_is_billed=stored["over"] == "bill",
        overage_limit=stored["overage_limit"],
        curve=Curve.from_json(stored["curve"]) if stored.get("curve") else None,
    )
