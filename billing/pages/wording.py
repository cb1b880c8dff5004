"""How the portal says things: money, prices, rights, balances, standing, states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from accounts.domain.problem_types import PROBLEM_TYPES
from billing.domain.money import Money, currency_of, format_exact, format_money
from billing.domain.trials import TrialOutcome
from billing.models import Invoice, PlanEntitlement, PlanVersion, Subscription
from billing.queries.top_ups import AutoTopUpView
from billing.queries.trials import after_trial
from metering.domain.windows import FOREVER
from metering.queries.balances import BalanceView, EntitlementsView

_TAGS: Final = {
    "active": "good", "trialing": "good", "paid": "good",
    "past_due": "warn", "incomplete": "warn", "paused": "warn", "open": "warn",
    "unpaid": "bad", "canceled": "bad", "uncollectible": "bad",
    "pending": "warn", "action_required": "warn", "failed": "bad",
}  # fmt: skip

_FAILURES: Final = {
    "authentication_required": "Your bank wants you to confirm the payment.",
    "card_declined": "Your card was declined.",
    "confirmation_expired": "The payment was not confirmed with your bank within a day.",
    "expired_card": "Your card has expired.",
    "generic_decline": "Your card was declined.",
    "insufficient_funds": "Your card has insufficient funds.",
    "payment_method_missing": "There was no payment method to charge.",
}


@dataclass(frozen=True, slots=True)
class Tag:
    """A state in words and the colour that goes with them; the words say it all."""

    words: str
    colour: str


@dataclass(frozen=True, slots=True)
class Way:
    """A way out: where, and what the button says."""

    url: str
    words: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What stands in the way, and the ways out; none: only the operator can help."""

    urgent: bool
    title: str
    words: str
    ways: tuple[Way, ...] = ()


@dataclass(frozen=True, slots=True)
class Meter:
    """A balance as a bar with its words; `most` 0 = no bar, since nothing limits it."""

    name: str
    unit: str
    used: int
    held: int
    most: int
    taken: int
    remaining: int
    unlimited: bool
    overage: int
    overage_limit: int | None
    billed: bool
    resets_at: datetime | None

    @property
    def full(self) -> bool:
        """Whether nothing more is admitted in this window."""
        if self.unlimited or self.remaining:
            return False
        if not self.billed:
            return True
        return self.overage_limit is not None and self.overage >= self.overage_limit

    @property
    def low(self) -> int:
        """From here on the bar warns."""
        return self.most * 4 // 5

    @property
    def high(self) -> int:
        """Past this the bar alarms: nothing is left."""
        return max(self.most - 1, self.low)


def money(amount: int, currency: str) -> str:
    """An amount in minor units as people write it: $19.99."""
    return format_money(Money(amount, currency))


def decimal_money(amount: str, currency: str) -> str:
    """An exact amount in major units, with at least the currency's places: $0.000002."""
    return format_exact(Decimal(amount), currency=currency)


def typed_money(amount: int | None, currency: str) -> str:
    """An amount in minor units as people type it into a field: 19.99; None: empty."""
    if amount is None:
        return ""
    return f"{Decimal(amount).scaleb(-currency_of(currency).exponent):f}"


def failure(invoice: Invoice) -> str:
    """Why a payment did not come through, in a sentence."""
    return _FAILURES.get(invoice.failure_code, f"Your bank said: {invoice.failure_code}.")


def suppression(view: AutoTopUpView) -> str:
    """Why automatic top-ups stopped, in a sentence."""
    assert view.suppressed_by is not None
    match view.suppressed_code:
        case "refunded":
            return "One of your top-ups was refunded."
        case "canceled":
            return "The last one was canceled."
        case _:
            return failure(view.suppressed_by)


def state(text: str) -> Tag:
    """A status as a tag: `past_due` becomes "Past due"."""
    return Tag(text.replace("_", " ").capitalize(), _TAGS.get(text, ""))


def fee(version: PlanVersion) -> str:
    """What a version costs: $20.00 a month."""
    seats = " and each seat" if version.seats is not None else ""
    if not version.fee:
        return "By seats" if seats else "Free"
    return f"{money(version.fee, version.currency)} a {version.interval}{seats}"


def right(given: PlanEntitlement, *, version: PlanVersion) -> str:
    """What an entitlement gives, in a sentence's worth of words."""
    if given.meter is None:
        return given.feature if given.kind == "boolean" else f"{given.feature}: {given.value}"
    if given.unlimited:
        return f"Unlimited {given.meter.key}"
    span = version.interval if given.window == "period" else given.window
    span = "in all" if span == "lifetime" else f"a {span}"
    included = f"{given.included:,} {given.meter.key} {span}"
    if given.over != "bill" or not given.price:
        return included
    limit = f", {given.overage_limit:,} at most" if given.overage_limit is not None else ""
    return f"{included}, then {price(given.price, version.currency)}{limit}"


def price(data: Mapping[str, Any], currency: str) -> str:
    """A price as the API has it, in words."""
    match data.get("model"):
        case "per_unit":
            return f"{decimal_money(data['unit_price'], currency)} each"
        case "package":
            each = decimal_money(data["package_price"], currency)
            return f"{each} for every {data['package_size']:,}"
        case "flat":
            return f"{decimal_money(data['price'], currency)} in all"
        case "percentage":
            return f"{data['percent']}% of its value"
        case _:
            first = decimal_money(data["tiers"][0]["unit_price"], currency)
            return f"{first} each at first, in {len(data['tiers'])} tiers"


def meters(rights: EntitlementsView) -> list[Meter]:
    """The balances as bars."""
    return [_meter(view) for view in rights.balances]


def _meter(view: BalanceView) -> Meter:
    most = 0 if view.unlimited else view.granted
    return Meter(
        name=view.meter,
        unit=view.unit,
        used=view.used,
        held=view.held,
        most=most,
        taken=max(most - view.remaining, 0),
        remaining=view.remaining,
        unlimited=view.unlimited,
        overage=0 if view.unlimited else view.overage,
        overage_limit=view.overage_limit,
        billed=view.over == "bill",
        resets_at=None if view.resets_at >= FOREVER else view.resets_at,
    )


def notice(
    rights: EntitlementsView,
    *,
    subscription: Subscription | None,
    unpaid: Invoice | None,
    now: datetime,
) -> Notice | None:
    """Why calls are denied, or soon will be, and what to do about it; None where all is well."""
    if rights.suspended:
        about = "Every call is denied. Please ask the operator."
        return Notice(urgent=True, title="Your account is suspended", words=about)
    coming = rights.deny_at is not None and rights.deny_at > now
    code = rights.deny_code or ("no_subscription" if subscription is None else "")
    if code:
        problem = PROBLEM_TYPES[code]
        return Notice(
            urgent=True,
            title=f"Calls are denied: {problem.title[0].lower()}{problem.title[1:]}",
            words=problem.when,
            ways=_ways_out(code, unpaid=unpaid),
        )
    if unpaid is not None and unpaid.failure_code and coming:
        assert rights.deny_at is not None
        return Notice(
            urgent=False,
            title="A payment did not come through",
            words=f"Calls are served until {_moment(rights.deny_at)}, and denied afterwards.",
            ways=_ways_out("payment_failed", unpaid=unpaid),
        )
    if subscription is not None and subscription.cancel_at is not None:
        words = f"Your plan ends on {_moment(subscription.cancel_at)}."
        return Notice(urgent=False, title="Your plan is ending", words=words)
    if subscription is not None and subscription.status == Subscription.Status.TRIALING:
        return _trial_notice(subscription)
    return None


def _trial_notice(subscription: Subscription) -> Notice:
    """What the end of the trial will bring, as things are now."""
    assert subscription.trial_end_at is not None
    after, end = after_trial(subscription), _moment(subscription.trial_end_at)
    ways: tuple[Way, ...] = ()
    name, card = after.version.plan.name, Way("/portal/payment-method", "Add a payment method")
    match after.outcome:
        case TrialOutcome.PAID:
            then = f"Afterwards {name} goes on: {fee(after.version)}."
        case TrialOutcome.WAITS:
            then, ways = "Afterwards calls are denied until you add a payment method.", (card,)
        case TrialOutcome.CANCELED:
            then, ways = "Your plan ends with it unless you add a payment method.", (card,)
        case _:
            then, ways = f"Afterwards you are on {name}, unless you add a payment method.", (card,)
    title = f"Your trial ends on {end}"
    return Notice(urgent=False, title=title, words=then, ways=ways)


def _ways_out(code: str, *, unpaid: Invoice | None) -> tuple[Way, ...]:
    card = Way("/portal/payment-method", "Change the payment method")
    pay = () if unpaid is None or not unpaid.hosted_url else (Way(unpaid.hosted_url, "Pay it now"),)
    match code:
        case "payment_failed" | "payment_action_required":
            return (*pay, card)
        case "payment_method_missing":
            return (Way("/portal/payment-method", "Add a payment method"),)
        case _:
            return (*pay, Way("/portal/plans", "Choose a plan"))


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%-d %B %Y, %H:%M} UTC"
