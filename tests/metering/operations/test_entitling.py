"""metering.operations.entitling: rights, windows, and usage that goes on counting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from accounts.models import CatalogueVersion, Customer, CustomerVersion
from accounts.operations.versions import CustomerUnknown
from metering.domain.windows import FOREVER, anchored_window
from metering.models import Balance, Entitlement, Meter, Offer, RetiredMonth, Standing
from metering.operations.checking import broken_invariants
from metering.operations.entitling import (
    OfferTerms,
    Right,
    RightsContradict,
    StandingTerms,
    entitle,
    publish_offers,
)
from metering.operations.granting import grant
from metering.operations.rolling_up import roll_up
from metering.queries.balances import balances
from tests.factories.metering import (
    NOW,
    make_customer,
    make_entitlement,
    make_meter,
    open_hold,
    report,
)
from tests.factories.threads import at_once

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
GOOD = StandingTerms(plan_key="pro", plan_name="Pro")


def metered(meter: Meter, **changes: Any) -> Right:
    given: dict[str, Any] = {
        "kind": "metered",
        "meter_id": meter.id,
        "anchor_at": BEGIN,
        "starts_at": BEGIN,
        "included": 1_000,
        **changes,
    }
    return Right(**given)


def give(customer: Customer, *rights: Right, now: datetime = NOW, source: str = "sub_1") -> None:
    entitle(customer.id, rights=rights, standing=GOOD, source=source, now=now)


@pytest.mark.django_db
def test_rights_standing_and_version_come_together() -> None:
    customer, meter = make_customer(), make_meter()
    give(
        customer,
        metered(meter),
        Right(kind="boolean", feature="sso", anchor_at=BEGIN, starts_at=BEGIN),
        Right(kind="static", feature="region", value="eu", anchor_at=BEGIN, starts_at=BEGIN),
    )
    assert Entitlement.objects.count() == 3
    standing = Standing.objects.get()
    assert (standing.plan_key, standing.plan_name, standing.deny_code) == ("pro", "Pro", "")
    assert CustomerVersion.objects.get(customer=customer).version == 1
    row = Balance.objects.get()
    assert (row.start_at, row.end_at, row.used) == (BEGIN, datetime(2026, 12, 1, tzinfo=UTC), 0)


@pytest.mark.django_db
def test_twice_is_once_and_ids_stay() -> None:
    customer, meter = make_customer(), make_meter()
    rights = metered(meter), Right(kind="boolean", feature="sso", anchor_at=BEGIN, starts_at=BEGIN)
    give(customer, *rights)
    before = list(Entitlement.objects.values()), list(Balance.objects.values())
    give(customer, *rights)
    assert (list(Entitlement.objects.values()), list(Balance.objects.values())) == before


@pytest.mark.django_db
def test_an_upgrade_keeps_what_was_used_held_and_paid_by_grants() -> None:
    customer, meter = make_customer(), make_meter()
    give(customer, metered(meter, included=100))
    given = grant(customer.id, meter_id=meter.id, quantity=30, actor="opk_1", now=NOW)
    report(customer, meter, 150)
    open_hold(customer, meter, 10)
    give(customer, metered(meter, included=1_000, over="bill"), source="sub_1")
    row = Balance.objects.get()
    assert (row.used, row.grant_used, row.held) == (150, 30, 10)
    given.refresh_from_db()
    assert given.used == 30
    (balance,) = balances(customer.id, now=NOW)
    assert (balance.remaining, balance.overage) == (1_000 - 120 - 10, 0)
    assert broken_invariants(now=NOW, customer_ids=[customer.id]) == []


@pytest.mark.django_db
def test_windows_whose_events_were_dropped_are_not_counted() -> None:
    customer, meter = make_customer(), make_meter()
    anchor = datetime(2026, 1, 7, 9, 41, tzinfo=UTC)  # within an hour
    report(customer, meter, 7, at=anchor)
    report(customer, meter, 5, at=NOW - timedelta(days=40))
    RetiredMonth.objects.create(month=datetime(2026, 7, 1, tzinfo=UTC).date(), detached_at=NOW)
    give(customer, metered(meter, anchor_at=anchor, starts_at=anchor))
    rows = Balance.objects.order_by("start_at")
    assert list(rows.values_list("start_at__month", "used")) == [(9, 5), (11, 0)]


@pytest.mark.django_db
def test_usage_from_before_the_first_right_counts_in_its_window() -> None:
    customer, meter = make_customer(), make_meter()
    report(customer, meter, 7, at=BEGIN + timedelta(hours=1))
    report(customer, meter, 5, at=BEGIN - timedelta(seconds=1))
    roll_up(limit=10)
    report(customer, meter, 3, at=NOW)
    give(customer, metered(meter, starts_at=NOW))
    assert Balance.objects.get().used == 10
    report(customer, meter, 1, at=BEGIN + timedelta(hours=2), received_at=NOW)
    assert Balance.objects.get().used == 11
    assert broken_invariants(now=NOW, customer_ids=[customer.id]) == []


@pytest.mark.django_db
def test_a_right_that_began_in_the_past_counts_its_earlier_windows() -> None:
    customer, meter = make_customer(), make_meter()
    begin = datetime(2026, 8, 31, tzinfo=UTC)
    report(customer, meter, 7, at=datetime(2026, 9, 30, tzinfo=UTC) - timedelta(seconds=1))
    report(customer, meter, 5, at=datetime(2026, 9, 30, tzinfo=UTC))
    report(customer, meter, 2, at=NOW + timedelta(days=40))
    give(customer, metered(meter, anchor_at=begin, starts_at=begin))
    rows = Balance.objects.order_by("start_at").values_list("start_at", "used")
    assert list(rows) == [
        (begin, 7),
        (datetime(2026, 9, 30, tzinfo=UTC), 5),
        (datetime(2026, 10, 31, tzinfo=UTC), 0),
        (datetime(2026, 11, 30, tzinfo=UTC), 2),
    ]
    late = datetime(2026, 9, 30, 12, tzinfo=UTC)
    report(customer, meter, 1, at=late, received_at=NOW)
    broken = broken_invariants(now=NOW, customer_ids=[customer.id], since=begin)
    assert broken == []


@pytest.mark.django_db
def test_a_right_that_ended_and_comes_again_counts_what_happened_between() -> None:
    customer, meter = make_customer(), make_meter()
    ends_at = BEGIN + timedelta(days=5)
    give(customer, metered(meter, window="day", ends_at=ends_at), now=BEGIN)
    report(customer, meter, 4, at=BEGIN + timedelta(days=1))
    report(customer, meter, 6, at=BEGIN + timedelta(days=6))
    assert not Balance.objects.filter(used=6).exists()
    give(customer, metered(meter, window="day"))
    rows = Balance.objects.filter(used__gt=0).values_list("start_at", "used")
    assert dict(rows) == {BEGIN + timedelta(days=1): 4, BEGIN + timedelta(days=6): 6}
    broken = broken_invariants(now=NOW, customer_ids=[customer.id], since=BEGIN)
    assert broken == []


@pytest.mark.django_db
def test_a_right_that_goes_on_keeps_its_beginning() -> None:
    customer, meter = make_customer(), make_meter()
    begin = datetime(2026, 8, 1, tzinfo=UTC)
    give(customer, metered(meter, anchor_at=begin, starts_at=begin))
    give(customer, metered(meter, anchor_at=begin, starts_at=NOW, included=5))
    right = Entitlement.objects.get()
    assert (right.starts_at, right.included) == (begin, 5)


@pytest.mark.django_db
def test_other_windows_count_anew_from_the_events() -> None:
    customer, meter = make_customer(), make_meter()
    give(customer, metered(meter))
    report(customer, meter, 7, at=BEGIN)
    report(customer, meter, 3, at=NOW)
    give(customer, metered(meter, window="day"), metered(meter, window="minute"))
    rows = Balance.objects.filter(end_at__gt=NOW).values_list("window", "used")
    assert dict(rows) == {"month": 10, "day": 3, "minute": 3}
    assert Balance.objects.get(window="day", start_at=BEGIN).used == 7
    assert broken_invariants(now=NOW, customer_ids=[customer.id]) == []


@pytest.mark.django_db
def test_a_lifetime_counts_all_there_ever_was() -> None:
    customer, meter = make_customer(), make_meter()
    report(customer, meter, 9, at=BEGIN - timedelta(days=1))
    report(customer, meter, 7, at=BEGIN)
    give(customer, metered(meter, window="lifetime"))
    row = Balance.objects.get()
    assert (row.start_at, row.end_at, row.used) == (BEGIN, FOREVER, 16)
    report(customer, meter, 2, at=NOW + timedelta(days=400), received_at=NOW)
    assert Balance.objects.get().used == 18
    assert broken_invariants(now=NOW, customer_ids=[customer.id]) == []


@pytest.mark.django_db
def test_a_right_of_the_future_has_no_balance_yet() -> None:
    customer, meter = make_customer(), make_meter()
    begin = NOW + timedelta(days=1)
    give(customer, metered(meter, window="day", starts_at=begin))
    assert Entitlement.objects.get().starts_at == begin
    assert not Balance.objects.exists()


@pytest.mark.django_db
def test_a_right_that_begins_later_in_this_window_counts_it_whole() -> None:
    customer, meter = make_customer(), make_meter()
    report(customer, meter, 7)
    give(customer, metered(meter, starts_at=NOW + timedelta(days=1)))
    assert Balance.objects.get().used == 7
    assert broken_invariants(now=NOW, customer_ids=[customer.id]) == []


@pytest.mark.django_db
def test_an_earlier_beginning_counts_the_windows_before() -> None:
    customer, meter = make_customer(), make_meter()
    report(customer, meter, 7, at=BEGIN - timedelta(days=1))
    give(customer, metered(meter))
    assert not Balance.objects.filter(used=7).exists()
    give(customer, metered(meter, starts_at=BEGIN - timedelta(days=40)))
    assert Balance.objects.get(start_at=datetime(2026, 10, 1, tzinfo=UTC)).used == 7


@pytest.mark.django_db
def test_a_new_right_of_long_ago_looks_back_a_while() -> None:
    customer, meter = make_customer(), make_meter()
    report(customer, meter, 7, at=NOW - timedelta(days=399))
    report(customer, meter, 5, at=NOW - timedelta(days=401))
    give(customer, metered(meter, window="day", starts_at=NOW - timedelta(days=500)))
    assert list(Balance.objects.filter(used__gt=0).values_list("used", flat=True)) == [7]


@pytest.mark.django_db
def test_only_what_subscriptions_gave_is_replaced() -> None:
    customer, meter, other = make_customer(), make_meter(), make_meter()
    own = make_entitlement(customer, meter, included=5, source="goodwill")
    make_entitlement(customer, other, source="sub_old")
    give(customer, metered(meter, included=1), metered(meter, window="hour"), source="sub_new")
    found = Entitlement.objects.order_by("included").values_list("window", "included", "source")
    assert list(found) == [("month", 5, "goodwill"), ("hour", 1_000, "sub_new")]
    assert Entitlement.objects.filter(id=own.id).exists()


@pytest.mark.django_db
def test_anchors_are_whole_seconds() -> None:
    customer, meter = make_customer(), make_meter()
    give(customer, metered(meter, anchor_at=BEGIN.replace(microsecond=123_456)))
    assert Entitlement.objects.get().anchor_at == BEGIN


@pytest.mark.django_db
@pytest.mark.parametrize("windows", [("month", "day"), ("hour", "hour")])
def test_contradicting_rights_change_nothing(windows: tuple[str, str]) -> None:
    customer, meter = make_customer(), make_meter()
    give(customer, metered(meter))
    before = list(Entitlement.objects.values())
    with pytest.raises(RightsContradict):
        give(customer, *(metered(meter, window=window) for window in windows))
    feature = Right(kind="boolean", feature="sso", anchor_at=BEGIN, starts_at=BEGIN)
    with pytest.raises(RightsContradict):
        give(customer, feature, feature)
    assert list(Entitlement.objects.values()) == before
    assert CustomerVersion.objects.get(customer=customer).version == 1


@pytest.mark.django_db
def test_nobody_has_no_rights() -> None:
    with pytest.raises(CustomerUnknown):
        entitle(1, rights=(), standing=GOOD, source="sub_1", now=NOW)


@pytest.mark.django_db
def test_offers_are_replaced_whole() -> None:
    publish_offers([OfferTerms("free", "Free", 0, {"meters": {}})])
    row = CatalogueVersion.objects.first()
    before = 0 if row is None else row.version
    publish_offers([OfferTerms("pro", "Pro", 2_000, {}), OfferTerms("scale", "Scale", 9_000, {})])
    assert set(Offer.objects.values_list("plan_key", flat=True)) == {"pro", "scale"}
    assert CatalogueVersion.objects.get().version == before + 1


@pytest.mark.django_db(transaction=True)
def test_entitling_beside_itself_and_beside_usage() -> None:
    customer, meter = make_customer(), make_meter()

    def entitles() -> None:
        for included in range(5):
            give(customer, metered(meter, included=included), metered(meter, window="minute"))

    def uses() -> None:
        for _ in range(8):
            report(customer, meter, 3)

    at_once([entitles, entitles, entitles, uses, uses])
    assert Entitlement.objects.count() == 2
    assert set(Balance.objects.values_list("window", "used")) == {("month", 48), ("minute", 48)}
    assert CustomerVersion.objects.get(customer=customer).version == 15 + 16
    assert broken_invariants(now=NOW) == []


MOMENTS = st.integers(min_value=-40 * 86_400, max_value=5 * 86_400).map(
    lambda seconds: NOW + timedelta(seconds=seconds)
)
PLANS = st.tuples(
    st.sampled_from(["day", "week", "month", "lifetime"]), st.integers(min_value=0, max_value=50)
)


class TestUsedIsAlwaysWhatHappened(TestCase):
    """I1 and I2 hold after any sequence of usage, roll-ups, grants and plan changes."""

    @settings(max_examples=15)
    @given(
        steps=st.lists(
            st.tuples(st.just("use"), MOMENTS, st.integers(min_value=0, max_value=30))
            | st.tuples(st.just("plan"), MOMENTS, PLANS)
            | st.tuples(st.just("grant"), MOMENTS, st.integers(min_value=1, max_value=30))
            | st.tuples(st.just("roll"), MOMENTS, st.none()),
            max_size=8,
        )
    )
    def test_any_sequence(self, steps: list[tuple[str, datetime, Any]]) -> None:
        customer, meter = make_customer(), make_meter()
        happened: list[tuple[datetime, int]] = []
        for kind, moment, value in [*steps, ("plan", BEGIN, ("month", 10))]:
            match kind:
                case "use":
                    report(customer, meter, value, at=moment)
                    happened.append((moment, value))
                case "plan":
                    window, included = value
                    right = metered(
                        meter,
                        window=window,
                        included=included,
                        anchor_at=moment,
                        starts_at=min(moment, NOW),
                    )
                    give(customer, right)
                case "grant":
                    grant(customer.id, meter_id=meter.id, quantity=value, actor="opk_1", now=moment)
                case _:
                    roll_up(limit=2)
            broken = broken_invariants(
                now=NOW, customer_ids=[customer.id], since=NOW - timedelta(days=200)
            )
            assert broken == []
        start_at, end_at = anchored_window(BEGIN, unit="month", at=NOW)
        row = Balance.objects.get(customer_id=customer.id, window="month", start_at=start_at)
        assert row.used == sum(each for at, each in happened if start_at <= at < end_at)
