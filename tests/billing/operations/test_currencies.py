"""Several currencies: one version, a price in each, and every customer in its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from accounts.models import Customer
from accounts.operations.customers import CurrencyFixed, change_customer
from billing.domain.plan_changes import ChangeWhen
from billing.domain.plan_files import PlanFileInvalid, parse_plan_file
from billing.models import Override, Plan, PlanEntitlement, PlanVersion, Subscription, Wallet
from billing.operations import catalogue, checkout, couponing, limiting, migrating, simulating
from billing.operations.changing import change_plan, preview_change
from billing.operations.plan_files import apply_plans
from billing.operations.plan_shapes import PlanInvalid, VersionTerms
from billing.operations.subscribing import subscribe
from billing.queries.catalogue import (
    CurrencyUnfit,
    active_version,
    in_all_currencies,
    in_currency,
    plans_on_sale,
)
from billing.queries.plan_files import exported
from metering.models import Meter, Offer
from tests.billing.pages.conftest import signed_in
from tests.factories.accounts import a_customer, a_member, operator
from tests.factories.billing import (
    ACTOR,
    NOW,
    START,
    a_plan,
    a_subscription,
    amounts,
    bill,
    calls,
    fresh,
)
from tests.factories.metering import make_meter, report

pytestmark = pytest.mark.django_db
NOVEMBER = datetime(2026, 11, 2, tzinfo=UTC)
DAY = timedelta(days=1)

SEATS = {"included": 1, "price": {"model": "per_unit", "unit_price": "5"}}
PRICES: dict[str, dict[str, Any]] = {
    "eur": {"fee": 1_800, "seat_price": {"model": "per_unit", "unit_price": "4.5"}},
    "jpy": {"fee": 3_000, "seat_price": {"model": "per_unit", "unit_price": "700"}},
    "kwd": {"fee": 6_000, "seat_price": {"model": "per_unit", "unit_price": "1.5"}},
}
EACH = {"eur": "0.009", "jpy": "1.5", "kwd": "0.0031"}


@pytest.fixture
def meter() -> Meter:
    return make_meter(key="api.calls")


def prices(*currencies: str, **more: Any) -> dict[str, Any]:
    return {
        code: PRICES[code]
        | {"meters": {"api.calls": {"model": "per_unit", "unit_price": EACH[code]}}}
        | more
        for code in currencies or PRICES
    }


def sold(meter: Meter, **members: Any) -> PlanVersion:
    """$20 and $5 a seat in dollars, and in each currency of PRICES."""
    given: dict[str, Any] = {"key": "pro", "seats": SEATS, "prices": prices()}
    return a_plan(calls(meter, included=1_000), **given | members)


def paying_in(currency: str, **members: Any) -> Customer:
    return a_customer(currency=currency, **members)


@pytest.mark.parametrize(
    ("currency", "lines"),
    [
        ("usd", [("fee", 2_000), ("fee", 1_000), ("usage", 150)]),  # 2 * 5, 150 * 0.01
        ("eur", [("fee", 1_800), ("fee", 900), ("usage", 135)]),  # 2 * 4.50, 150 * 0.009
        ("jpy", [("fee", 3_000), ("fee", 1_400), ("usage", 225)]),  # 2 * 700, 150 * 1.5
        # 2 * 1.500; 150 * 0.0031 = 0.465, rounded to the 10 fils that can be charged
        ("kwd", [("fee", 6_000), ("fee", 3_000), ("usage", 470)]),
    ],
)
def test_each_customer_is_billed_in_its_currency(
    meter: Meter, currency: str, lines: list[tuple[str, int]]
) -> None:
    version = sold(meter)
    subscription = a_subscription(version, customer=paying_in(currency), seats=3)
    assert subscription.version.currency == currency
    assert subscription.version.public_id == version.public_id
    report(subscription.customer, meter, 1_150, at=START + DAY)
    invoice = bill(subscription, now=NOVEMBER)
    assert (invoice.currency, amounts(invoice)) == (currency, lines)
    assert {line.detail["version"] for line in invoice.lines.all()} == {version.public_id}


def test_a_currency_that_is_not_listed_is_refused_with_those_that_are(meter: Meter) -> None:
    version = sold(meter, prices=prices("eur"))
    customer = paying_in("gbp")
    acts: list[Callable[[], object]] = [
        lambda: subscribe(customer.id, plan="pro", actor=ACTOR, now=NOW),
        lambda: checkout.begin_checkout(customer.id, plan="pro", actor=ACTOR, now=NOW),
    ]
    for act in acts:
        with pytest.raises(CurrencyUnfit, match=r"no price in gbp.*one in usd, eur"):
            act()
    assert not Subscription.objects.exists()
    assert active_version("pro") == version
    assert [each.currency for each in in_all_currencies(in_currency(version, currency="eur"))] == [
        "usd",
        "eur",
    ]


def test_an_incomplete_currency_is_refused_whole_and_nothing_is_drafted(meter: Meter) -> None:
    with pytest.raises(PlanInvalid) as refused:
        sold(meter, minimum=500, billing_threshold=900)
    assert refused.value.param == "prices.eur.minimum"
    for path in ("eur.billing_threshold", "jpy.minimum", "kwd.minimum"):
        assert path in refused.value.detail
    assert not Plan.objects.exists()
    assert not PlanVersion.objects.exists()


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (prices("jpy", fee=-1), "prices.jpy.fee"),
        (prices("kwd", fee=1_005), "prices.kwd.fee"),  # fils are charged in tens
        (prices("jpy", seat_price={"model": "per_unit"}), "prices.jpy.seat_price.unit_price"),
        (
            prices("eur", meters={"api.calls": {"model": "per_unit", "unit_price": "-1"}}),
            "prices.eur.meters.api.calls.unit_price",
        ),
        ([], "prices"),
        (prices("eur", tax_behavior="both"), "prices.eur.tax_behavior"),
    ],
)
def test_what_is_no_price_in_a_currency_is_named_there(
    meter: Meter, given: Any, param: str
) -> None:
    with pytest.raises(PlanInvalid) as refused:
        sold(meter, prices=given)
    assert refused.value.param == param
    assert not PlanVersion.objects.exists()


def test_an_active_version_keeps_its_currencies_too(meter: Meter) -> None:
    version = sold(meter, prices=prices("eur"))
    euro = in_currency(version, currency="eur")
    assert (euro.state, euro.activated_at) == ("active", START)
    with pytest.raises(IntegrityError, match="cannot change"), transaction.atomic():
        PlanVersion.objects.filter(pk=euro.pk).update(fee=1)
    with pytest.raises(IntegrityError, match="cannot change"), transaction.atomic():
        PlanEntitlement.objects.filter(version=euro).update(price=None)
    late = PlanVersion(
        plan=version.plan, base=version, number=1, currency="gbp", fee=1, created_at=NOW
    )
    with pytest.raises(IntegrityError, match="belong to a draft"), transaction.atomic():
        late.save(force_insert=True)
    assert PlanVersion.objects.count() == 2


def test_a_draft_goes_on_sale_in_all_its_currencies(meter: Meter) -> None:
    old = sold(meter)
    terms = VersionTerms(fee=2_500, prices={"eur": {"fee": 2_200}, "gbp": {"fee": 1_900}})
    draft = catalogue.new_version(old.plan_id, terms=terms, actor=ACTOR, now=NOW)
    euro = draft.further.get(currency="eur")
    for named in (draft, euro):  # any of its rows
        catalogue.activate(named.id, actor=ACTOR, now=NOW)
    assert {each.currency: each.fee for each in plans_on_sale()} == {
        "usd": 2_500,
        "eur": 2_200,
        "gbp": 1_900,
    }
    assert [each.fee for each in plans_on_sale(currency="eur")] == [2_200]
    assert set(Offer.objects.values_list("plan_key", "currency")) == {
        ("pro", "usd"),
        ("pro", "eur"),
        ("pro", "gbp"),
    }
    assert str(fresh(euro)) == "Pro v2 in eur"
    with pytest.raises(CurrencyUnfit):
        active_version("pro", currency="jpy")


def test_a_change_of_plan_stays_within_the_currency(meter: Meter) -> None:
    sold(meter)
    a_plan(key="dollars", fee=9_000)
    scale = a_plan(key="scale", fee=9_000, prices={"eur": {"fee": 8_000}})
    subscription = a_subscription(active_version("pro"), customer=paying_in("eur"))
    preview = preview_change(subscription.id, plan="scale", now=NOW)
    assert (preview.next_fee, preview.invoice.currency) == (8_000, "eur")
    with pytest.raises(CurrencyUnfit):
        change_plan(subscription.id, plan="dollars", actor=ACTOR, now=NOW)
    assert fresh(subscription).version == subscription.version
    change_plan(subscription.id, plan="scale", actor=ACTOR, now=NOW)
    assert fresh(subscription).version == in_currency(scale, currency="eur")
    change_plan(subscription.id, plan="scale", actor=ACTOR, now=NOW)  # it is on it


def test_a_visit_whose_plan_lost_the_currency_leaves_the_card(meter: Meter) -> None:
    version = sold(meter)
    customer = paying_in("eur")
    visit = checkout.begin_checkout(customer.id, plan="pro", actor=ACTOR, now=NOW)
    terms = VersionTerms(fee=2_500)
    catalogue.new_version(version.plan_id, terms=terms, activate=True, actor=ACTOR, now=NOW)
    assert checkout.complete_checkout(visit.id, now=NOW).status == "complete"
    assert not Subscription.objects.exists()


class TestMigrating:
    def test_each_moves_in_its_currency_and_back(self, meter: Meter) -> None:
        old = sold(meter)
        dollars, euros = a_subscription(old), a_subscription(old, customer=paying_in("eur"))
        terms = VersionTerms(fee=2_500, prices={"eur": {"fee": 2_200}})
        new = catalogue.new_version(old.plan_id, terms=terms, activate=True, actor=ACTOR, now=START)
        order: dict[str, Any] = {"target_id": new.id, "when": ChangeWhen.NOW, "now": NOW}
        _, rows = migrating.preview_migration(old.id, limit=5, **order)
        assert [(row.before.currency, row.next_fee_after) for row in rows] == [
            ("usd", 2_500),
            ("eur", 2_200),
        ]
        moved = migrating.start_migration(old.id, actor=ACTOR, **order)
        migrating.advance_migrations(now=NOW, limit=10)
        assert fresh(dollars).version == new
        assert fresh(euros).version == in_currency(new, currency="eur")
        migrating.revert_migration(moved.id, actor=ACTOR, now=NOW)
        migrating.advance_migrations(now=NOW, limit=10)
        assert (fresh(dollars).version, fresh(euros).version) == (old, euros.version)

    def test_a_target_without_a_currency_somebody_pays_in_is_refused(self, meter: Meter) -> None:
        old = sold(meter)
        euros = a_subscription(old, customer=paying_in("eur"))
        new = catalogue.new_version(
            old.plan_id, terms=VersionTerms(fee=1), activate=True, actor=ACTOR, now=START
        )
        with pytest.raises(migrating.MigrationRefused, match="no price in eur"):
            migrating.start_migration(
                old.id, target_id=new.id, when=ChangeWhen.NOW, actor=ACTOR, now=NOW
            )
        assert fresh(euros).version == euros.version

    def test_a_change_that_waits_is_taken_back(self, meter: Meter) -> None:
        old = sold(meter)
        euros = a_subscription(old, customer=paying_in("eur"))
        terms = VersionTerms(fee=2_500, prices={"eur": {"fee": 2_200}})
        new = catalogue.new_version(old.plan_id, terms=terms, activate=True, actor=ACTOR, now=START)
        moved = migrating.start_migration(
            old.id, target_id=new.id, when=ChangeWhen.PERIOD_END, actor=ACTOR, now=NOW
        )
        migrating.advance_migrations(now=NOW, limit=10)
        assert fresh(euros).pending_version == in_currency(new, currency="eur")
        migrating.revert_migration(moved.id, actor=ACTOR, now=NOW)
        migrating.advance_migrations(now=NOW, limit=10)
        assert fresh(euros).pending_version is None


def test_prices_are_simulated_in_one_currency(meter: Meter) -> None:
    old = sold(meter)
    dollars, euros = a_subscription(old), a_subscription(old, customer=paying_in("eur"))
    for each in (dollars, euros):
        bill(each, now=NOVEMBER)
    terms = VersionTerms(fee=2_500, prices={"eur": {"fee": 2_200}})
    draft = catalogue.new_version(old.plan_id, terms=terms, actor=ACTOR, now=NOVEMBER)
    span: dict[str, Any] = {"start_at": START, "end_at": NOVEMBER, "source_id": old.id}
    for currency, customer, before, after in (
        (None, dollars.customer_id, 2_000, 2_500),
        ("eur", euros.customer_id, 1_800, 2_200),
    ):
        asked = simulating.start_simulation(
            draft.id, currency=currency, actor=ACTOR, now=NOVEMBER, **span
        )
        simulating.advance_simulations(now=NOVEMBER, limit=10)
        assert list(asked.revenues.values_list("customer_id", "before", "after")) == [
            (customer, before, after)
        ]
    with pytest.raises(simulating.SimulationRefused) as refused:
        simulating.start_simulation(draft.id, currency="jpy", actor=ACTOR, now=NOVEMBER, **span)
    assert refused.value.param == "currency"


class TestPlanFiles:
    def test_what_is_exported_has_its_currencies_and_changes_nothing(self, meter: Meter) -> None:
        sold(meter)
        data = exported()
        assert data["plans"]["pro"]["prices"]["jpy"]["fee"] == 3_000
        assert self.apply(data) == ["none"]
        assert PlanVersion.objects.count() == 4

    def test_another_amount_is_a_new_version_and_the_difference_says_where(
        self, meter: Meter
    ) -> None:
        sold(meter)
        data = exported()
        data["plans"]["pro"]["prices"]["eur"]["fee"] = 1_900
        (change,) = apply_plans(parse_plan_file(data), actor=ACTOR, now=NOW)
        assert (change.action, change.version) == ("change", 2)
        assert [(each.path, each.before, each.after) for each in change.differences] == [
            ("prices.eur.fee", 1_800, 1_900)
        ]
        assert self.apply(exported()) == ["none"]
        del data["plans"]["pro"]["prices"]["eur"]["fee"]
        with pytest.raises(PlanFileInvalid, match=r"plans\.pro\.prices\.eur\.fee"):
            self.apply(data)

    def apply(self, data: dict[str, Any]) -> list[str]:
        return [each.action for each in apply_plans(parse_plan_file(data), actor=ACTOR, now=NOW)]


class TestCustomersCurrency:
    """The rule stands in the database: a trigger on the customers' table."""

    @pytest.mark.parametrize(
        "use",
        [
            lambda of: a_subscription(a_plan(fee=0), customer=of, card=False),
            lambda of: Wallet.objects.create(customer=of, currency="usd", created_at=NOW),
            lambda of: limiting.set_spend_limit(
                of.id, set_by="operator", amount=500, actor=ACTOR, now=NOW
            ),
            lambda of: Override.objects.create(
                customer=of,
                kind="metered",
                meter=make_meter(),
                terms={"price": {"model": "flat", "price": "1"}},
                starts_at=NOW,
                created_at=NOW,
            ),
            lambda of: checkout.begin_checkout(of.id, plan=a_plan().plan.key, actor=ACTOR, now=NOW),
        ],
        ids=["subscription", "wallet", "spend limit", "price", "checkout"],
    )
    def test_it_stays_once_it_is_used(self, use: Callable[[Customer], object]) -> None:
        customer = a_customer()
        use(customer)
        with pytest.raises(CurrencyFixed):
            change_customer(customer.id, changes={"currency": "eur"}, actor=ACTOR, now=NOW)
        assert fresh(customer).currency == "usd"

    def test_until_then_it_may_change(self, meter: Meter) -> None:
        sold(meter)
        customer = a_customer()
        change_customer(customer.id, changes={"currency": "jpy"}, actor=ACTOR, now=NOW)
        assert a_subscription(active_version("pro"), customer=fresh(customer)).version.fee == 3_000

    def test_over_the_api(self) -> None:
        customer, api = a_customer(), operator("customers:write")
        path = f"customers/{customer.public_id}"
        changed = api.call("PATCH", path, {"currency": "eur"})
        assert (changed.status_code, changed.json()["currency"]) == (200, "eur")
        Wallet.objects.create(customer=customer, currency="eur", created_at=NOW)
        refused = api.call("PATCH", path, {"currency": "usd"})
        assert (refused.status_code, refused.json()["param"]) == (409, "currency")
        assert fresh(customer).currency == "eur"


def test_an_amount_off_is_not_taken_off_in_another_currency(meter: Meter) -> None:
    sold(meter)
    couponing.create_coupon(code="FIVE", name="Five", amounts={"usd": 500}, actor=ACTOR, now=NOW)
    customer = paying_in("eur")
    with pytest.raises(couponing.CouponRefused, match="EUR"):
        couponing.redeem(customer.id, code="FIVE", actor=ACTOR, now=NOW)


def test_the_portal_shows_and_takes_the_customers_currency(meter: Meter) -> None:
    sold(meter)
    a_plan(key="dollars")
    customer = paying_in("eur")
    browser: Client = signed_in(a_member(customer))
    page = browser.get("/portal/plans").content.decode()
    assert "€18.00 a month" in page
    assert "then €0.009 each" in page
    assert "Dollars" not in page
    assert browser.get("/portal/plans/dollars").status_code == 404
