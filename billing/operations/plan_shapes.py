"""Reading the terms of a plan as the API takes them: what is sold, how much of it, for how much."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from billing.domain.further_prices import FurtherPricesInvalid, SoldFor, check_further
from billing.domain.money import CURRENCIES
from billing.domain.prices import PriceInvalid, parse_price, price_to_json
from billing.domain.seats import parse_seats, seats_to_json
from billing.domain.trials import TrialEndInvalid, parse_trial_end
from billing.models import Override, Plan, PlanEntitlement, PlanVersion
from metering.domain.meters import QUANTITY_MAX
from metering.domain.rollover import rolls
from metering.domain.windows import RATE_UNITS
from metering.models import Meter

AMOUNT_MAX: Final = 99_999_999_00
DAYS_MAX: Final = 731
ENTITLEMENTS_MAX: Final = 200
WINDOWS: Final = ("period", "month", "week", "day", "hour", "minute", "lifetime")
_FEATURE: Final = re.compile(r"[a-z0-9][a-z0-9_.\-]{0,99}")
_TAX_CODE: Final = re.compile(r"(txcd_[0-9]{8})?")
_RIGHT: Final = re.compile(r"entitlements\[(\d+)\]\.price")
_METERED: Final = frozenset(
    {"meter", "type", "included", "unlimited", "window", "rollover", "over", "overage_limit"}
    | {"price"}
)
_OTHER: Final = {
    "boolean": frozenset({"feature", "type"}),
    "static": frozenset({"feature", "type", "value"}),
}


class PlanInvalid(Exception):
    """A plan cannot be sold like this; `param` names the member at fault."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(f"{param}: {detail}")
        self.param = param
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionTerms:
    """What a version says, as the API takes it; `read_version` looks whether it holds together.

    `fee` and `minimum` are minor units of `currency` per `interval`; usage that comes to
    `billing_threshold` minor units is billed at once; `seats` what each seat costs; `tax_behavior`
    (exclusive, inclusive) and `tax_code` are passed on to Stripe Tax, empty: as the settings say;
    `entitlements` are objects as the contract shows them; `prices` has, by further currency,
    everything of them that is money.
    """

    currency: str = "usd"
    interval: str = "month"
    fee: int = 0
    trial_days: int = 0
    trial_card: bool = False
    trial_end: str = "wait"
    grace_days: int = 3
    minimum: int = 0
    billing_threshold: int | None = None
    seats: Mapping[str, Any] | None = None
    tax_behavior: str = ""
    tax_code: str = ""
    entitlements: Sequence[Mapping[str, Any]] = ()
    prices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Priced:
    """A version in one currency, unsaved, and its rights with their prices in it."""

    version: PlanVersion
    rights: list[PlanEntitlement]


def read_version(terms: VersionTerms) -> list[Priced]:
    """The version of these terms, then the same in each further currency.

    Every currency has a price for whatever has one in another. Raises PlanInvalid, which names
    all that is missing at once.
    """
    first = _read(terms)
    if not isinstance(terms.prices, Mapping):
        raise PlanInvalid("prices", "must map currencies to what is paid in them")
    sold = first.version
    has = SoldFor(
        sold.currency,
        fee=sold.fee,
        minimum=sold.minimum,
        billing_threshold=sold.billing_threshold,
        seat_price=sold.seats["price"] if sold.seats else None,
        meters={
            right.meter.key: right.price for right in first.rights if right.meter and right.price
        },
    )
    try:
        check_further(has, terms.prices)
    except FurtherPricesInvalid as invalid:
        raise PlanInvalid(invalid.param, invalid.detail) from invalid
    return [first, *(_read_further(terms, given, currency=c) for c, given in terms.prices.items())]


def _read_further(terms: VersionTerms, given: Mapping[str, Any], *, currency: str) -> Priced:
    """The terms with the money of another currency in them, read as any others."""
    meters = given.get("meters", {})
    other = replace(
        terms,
        currency=currency,
        fee=given.get("fee", 0),
        minimum=given.get("minimum", 0),
        billing_threshold=given.get("billing_threshold"),
        tax_behavior=given.get("tax_behavior", terms.tax_behavior),
        seats=terms.seats and {**terms.seats, "price": given["seat_price"]},
        entitlements=[
            {**right, "price": meters[right["meter"]]} if right.get("price") else right
            for right in terms.entitlements
        ],
        prices={},
    )
    try:
        return _read(other)
    except PlanInvalid as invalid:
        # What is wrong now is wrong in this currency: nothing but the money is other than before.
        param = invalid.param
        if found := _RIGHT.match(param):
            key = terms.entitlements[int(found[1])]["meter"]
            param = f"meters.{key}{param[found.end() :]}"
        elif param.startswith("seats.price"):
            param = "seat_price" + param.removeprefix("seats.price")
        raise PlanInvalid(f"prices.{currency}.{param}", invalid.detail) from invalid


def _read(terms: VersionTerms) -> Priced:
    if terms.currency not in CURRENCIES:
        raise PlanInvalid("currency", f"{terms.currency!r} cannot be invoiced here")
    if terms.interval not in PlanVersion.Interval.values:
        raise PlanInvalid("interval", f"must be one of {', '.join(PlanVersion.Interval.values)}")
    for name, most in (
        ("fee", AMOUNT_MAX),
        ("minimum", AMOUNT_MAX),
        ("trial_days", DAYS_MAX),
        ("grace_days", DAYS_MAX),
    ):
        _whole(getattr(terms, name), param=name, most=most)
    for name in ("fee", "minimum"):
        if not CURRENCIES[terms.currency].admits(getattr(terms, name)):
            step = CURRENCIES[terms.currency].step
            raise PlanInvalid(name, f"amounts in {terms.currency} are multiples of {step}")
    check_threshold(terms.billing_threshold, currency=terms.currency)
    if terms.tax_behavior not in ("", *PlanVersion.TaxBehavior.values):
        raise PlanInvalid("tax_behavior", "must be exclusive, inclusive or empty")
    if not _TAX_CODE.fullmatch(str(terms.tax_code)):
        raise PlanInvalid(
            "tax_code", "must be empty or a tax code of Stripe, such as txcd_10103001"
        )
    if len(terms.entitlements) > ENTITLEMENTS_MAX:
        raise PlanInvalid("entitlements", f"a plan has at most {ENTITLEMENTS_MAX}")
    version = PlanVersion(
        currency=terms.currency,
        interval=terms.interval,
        fee=terms.fee,
        trial_days=terms.trial_days,
        trial_card=terms.trial_card,
        trial_end=_trial_end(terms),
        grace_days=terms.grace_days,
        minimum=terms.minimum,
        billing_threshold=terms.billing_threshold,
        seats=_seats(terms.seats),
        tax_behavior=terms.tax_behavior,
        tax_code=terms.tax_code,
    )
    rights = [
        _entitlement(given, at=f"entitlements[{index}]")
        for index, given in enumerate(terms.entitlements)
    ]
    _refuse_contradictions(rights)
    return Priced(version, rights)


def check_threshold(amount: int | None, *, currency: str) -> None:
    """Raise PlanInvalid where usage of so many minor units cannot be billed by itself."""
    if amount is None:
        return
    least, step = CURRENCIES[currency].minimum_charge, CURRENCIES[currency].step
    _whole(amount, param="billing_threshold", most=AMOUNT_MAX)
    if amount < least:
        raise PlanInvalid("billing_threshold", f"is at least the {least} that can be charged")
    if amount % step:
        raise PlanInvalid("billing_threshold", f"amounts in {currency} are multiples of {step}")


def _trial_end(terms: VersionTerms) -> str:
    if not isinstance(terms.trial_card, bool):
        raise PlanInvalid("trial_card", "must be true or false")
    try:
        found = parse_trial_end(str(terms.trial_end))
    except TrialEndInvalid as invalid:
        raise PlanInvalid("trial_end", str(invalid)) from invalid
    if found.plan and not Plan.objects.filter(key=found.plan).exists():
        raise PlanInvalid("trial_end", f"there is no plan {found.plan[:100]!r}")
    return str(found)


def _seats(given: Mapping[str, Any] | None) -> dict[str, object] | None:
    try:
        return None if given is None else seats_to_json(parse_seats(given))
    except PriceInvalid as invalid:
        raise PlanInvalid(f"seats.{invalid.param}".rstrip("."), invalid.detail) from invalid


def read_override(given: Mapping[str, Any]) -> Override:
    """The row of one customer's terms, unsaved: what `given` says of a right, and nothing else.

    Of a meter any members of an entitlement but `type`; overage that is billed brings its price,
    and who names a price bills overage.
    Raises PlanInvalid.
    """
    given = dict(given)
    denied = given.pop("denied", False)
    if not isinstance(denied, bool):
        raise PlanInvalid("denied", "must be true or false")
    kind = "metered" if "meter" in given else "static" if "value" in given else "boolean"
    for member in given:
        if member not in (_METERED if kind == "metered" else _OTHER[kind]) - {"type"}:
            raise PlanInvalid(member, f"is not a member of a {kind} override")
    if denied and given.keys() - {"meter", "feature", "window"}:
        raise PlanInvalid("denied", "a right that is taken away has no terms")
    if not denied and kind == "metered" and not given.keys() - {"meter", "window"}:
        raise PlanInvalid("meter", "an override says what is otherwise")
    whole = {**given, "type": kind}
    if "price" in given or "overage_limit" in given:
        whole.setdefault("over", "bill")
    if "overage_limit" in given and "price" not in given and "over" not in given:
        whole["price"] = {"model": "per_unit", "unit_price": "0"}  # the plan's own stays
    try:
        right = _entitlement(whole, at="")
    except PlanInvalid as invalid:
        raise PlanInvalid(invalid.param.lstrip("."), invalid.detail) from invalid
    names = ("included", "unlimited", "window", "rollover", "over", "overage_limit", "price")
    said = given.keys() | ({"over"} if "price" in given else set())
    terms = {name: getattr(right, name) for name in names if name in said}
    if kind == "static":
        terms = {"value": right.value}
    return Override(
        kind=right.kind, meter=right.meter, feature=right.feature, denied=denied, terms=terms
    )


def _entitlement(given: object, *, at: str) -> PlanEntitlement:
    if not isinstance(given, Mapping):
        raise PlanInvalid(at, "must be an object")
    kind = given.get("type")
    readers: dict[object, Callable[..., PlanEntitlement]] = {
        "metered": _metered,
        "boolean": _feature,
        "static": _feature,
    }
    read = readers.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise PlanInvalid(f"{at}.type", f"must be one of {', '.join(map(str, readers))}")
    known = _METERED if kind == "metered" else _OTHER[str(kind)]
    for member in given:
        if member not in known:
            raise PlanInvalid(f"{at}.{member}", f"is not a member of a {kind} entitlement")
    return read(given, at=at)


def _feature(given: Mapping[str, Any], *, at: str) -> PlanEntitlement:
    feature, value = given.get("feature"), given.get("value", "")
    if not isinstance(feature, str) or not _FEATURE.fullmatch(feature):
        raise PlanInvalid(f"{at}.feature", "1 to 100 of a-z, 0-9, '.', '_' and '-'")
    if not isinstance(value, str) or len(value) > 500 or "\x00" in value:
        raise PlanInvalid(f"{at}.value", "must be text of at most 500 characters")
    if given["type"] == "static" and not value:
        raise PlanInvalid(f"{at}.value", "is required")
    return PlanEntitlement(kind=given["type"], feature=feature, value=value)


def _metered(given: Mapping[str, Any], *, at: str) -> PlanEntitlement:
    key = given.get("meter")
    meter = Meter.objects.filter(key=key, archived_at=None).first() if _is_key(key) else None
    if meter is None:
        raise PlanInvalid(f"{at}.meter", f"there is no meter {str(key)[:100]!r}")
    window, over = given.get("window", "period"), given.get("over", "deny")
    if window not in WINDOWS:
        raise PlanInvalid(f"{at}.window", f"must be one of {', '.join(WINDOWS)}")
    if over not in ("deny", "bill"):
        raise PlanInvalid(f"{at}.over", "must be deny or bill")
    unlimited = given.get("unlimited", False)
    if not isinstance(unlimited, bool):
        raise PlanInvalid(f"{at}.unlimited", "must be true or false")
    if given.get("rollover") and (unlimited or not rolls(window)):
        raise PlanInvalid(f"{at}.rollover", "needs a window of a day or more that ends")
    limit = given.get("overage_limit")
    return PlanEntitlement(
        kind="metered",
        meter=meter,
        window=window,
        unlimited=unlimited,
        included=_whole(given.get("included", 0), param=f"{at}.included", most=QUANTITY_MAX),
        rollover=_whole(given.get("rollover", 0), param=f"{at}.rollover", most=QUANTITY_MAX),
        over=over,
        overage_limit=None
        if limit is None
        else _whole(limit, param=f"{at}.overage_limit", most=QUANTITY_MAX),
        price=_price(given, window=window, over=over, unlimited=unlimited, at=at),
    )


def _price(
    given: Mapping[str, Any], *, window: str, over: str, unlimited: bool, at: str
) -> dict[str, object] | None:
    price = given.get("price")
    if over == "deny" or unlimited:
        why = "nothing is billed of what is unlimited" if unlimited else 'needs "over": "bill"'
        if price is not None or (over == "bill"):
            raise PlanInvalid(f"{at}.price", why)
        if given.get("overage_limit") is not None:
            raise PlanInvalid(f"{at}.overage_limit", why)
        return None
    if window in RATE_UNITS:
        raise PlanInvalid(f"{at}.over", "overage is billed by windows of a day or more")
    if price is None:
        raise PlanInvalid(f"{at}.price", "is required where overage is billed")
    try:
        return price_to_json(parse_price(price))
    except PriceInvalid as invalid:
        param = f"{at}.price.{invalid.param}" if invalid.param else f"{at}.price"
        raise PlanInvalid(param, invalid.detail) from invalid


def _refuse_contradictions(rights: Sequence[PlanEntitlement]) -> None:
    """A feature once; a meter once by the minute, once by the hour, once by something longer."""
    seen: set[tuple[str, int | None, str]] = set()
    for index, right in enumerate(rights):
        window = right.window if right.window in RATE_UNITS else "longer"
        slot = (right.feature, right.meter_id, window if right.meter_id else "")
        if slot in seen:
            named = right.meter.key if right.meter else right.feature
            raise PlanInvalid(f"entitlements[{index}]", f"{named} is entitled twice")
        seen.add(slot)


def _is_key(key: object) -> bool:
    return isinstance(key, str) and "\x00" not in key


def _whole(value: object, *, param: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise PlanInvalid(param, f"must be a whole number from 0 to {most}")
    return value
