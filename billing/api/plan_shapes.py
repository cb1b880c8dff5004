"""The shapes of plans: what the API takes and answers for versions, entitlements and prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from rest_framework import serializers

from accounts.api.fields import (
    CurrencyField,
    FlagField,
    InstantField,
    KeyField,
    PublicIdField,
    TextField,
    UnitPriceField,
    WholeField,
)
from accounts.api.serializing import StrictSerializer
from billing.api.fields import TextOrNull
from billing.domain.prices import decimal_text
from billing.domain.seats import SEATS_MAX
from billing.models import Plan, PlanEntitlement, PlanVersion
from billing.operations.plan_shapes import (
    AMOUNT_MAX,
    DAYS_MAX,
    WINDOWS,
    VersionTerms,
)
from billing.queries.plan_files import prices_as_data, rights_of

TAX_BEHAVIORS: Final = ("", *PlanVersion.TaxBehavior.values)
MODELS: Final = ("per_unit", "graduated", "volume", "package", "flat", "percentage")


class PriceText(UnitPriceField):
    """A decimal text, kept as a text: billing reads it exactly."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the decimal without needless zeros."""
        return decimal_text(Decimal(super().to_internal_value(data)))


class TierBody(StrictSerializer):
    """One tier; `up_to` null ends the list."""

    up_to = WholeField(least=1, allow_null=True)
    unit_price = PriceText()
    flat_price = PriceText(required=False)


class PriceBody(StrictSerializer):
    """A price for units past the included ones; which members it has follows from `model`."""

    model = serializers.ChoiceField(MODELS)
    unit_price = PriceText(required=False)
    tiers = TierBody(many=True, required=False)
    package_size = WholeField(least=1, required=False)
    package_price = PriceText(required=False)
    price = PriceText(required=False)
    percent = PriceText(required=False)
    unit_value = PriceText(required=False)
    fixed = PriceText(required=False)
    minimum = PriceText(required=False, allow_null=True)
    maximum = PriceText(required=False, allow_null=True)


class SeatsBody(StrictSerializer):
    """What a seat costs a period, from the first one past the included ones on."""

    included = WholeField(most=SEATS_MAX, required=False)
    price = PriceBody()

    def to_representation(self, instance: dict[str, Any]) -> dict[str, Any]:
        """As the version keeps it: only the members of the price's model."""
        return instance


class FurtherPrices(StrictSerializer):
    """All that is money of a version, in one further currency."""

    fee = WholeField(most=AMOUNT_MAX, required=False)
    minimum = WholeField(most=AMOUNT_MAX, required=False)
    billing_threshold = WholeField(least=1, most=AMOUNT_MAX, required=False, allow_null=True)
    seat_price = PriceBody(required=False, allow_null=True)
    tax_behavior = serializers.ChoiceField(TAX_BEHAVIORS, required=False)
    meters = serializers.DictField(child=PriceBody(), required=False)

    def to_representation(self, instance: dict[str, Any]) -> dict[str, Any]:
        """As the version keeps them."""
        return instance


class EntitlementBody(StrictSerializer):
    """One right; metered ones name a meter, boolean and static ones a feature."""

    type = serializers.ChoiceField(("metered", "boolean", "static"))
    meter = KeyField(required=False)
    feature = KeyField(required=False)
    value = TextField(max_length=500, required=False)
    included = WholeField(required=False)
    unlimited = FlagField(required=False)
    window = serializers.ChoiceField(WINDOWS, required=False)
    rollover = WholeField(required=False)
    over = serializers.ChoiceField(("deny", "bill"), required=False)
    overage_limit = WholeField(required=False, allow_null=True)
    price = PriceBody(required=False, allow_null=True)


class NewVersion(StrictSerializer):
    """The terms of a version to be drafted, and whether it goes on sale at once."""

    currency = CurrencyField(required=False)
    interval = serializers.ChoiceField(PlanVersion.Interval.values, required=False)
    fee = WholeField(most=AMOUNT_MAX, required=False)
    trial_days = WholeField(most=DAYS_MAX, required=False)
    trial_card = FlagField(required=False)
    trial_end = TextField(max_length=110, required=False)
    grace_days = WholeField(most=DAYS_MAX, required=False)
    minimum = WholeField(most=AMOUNT_MAX, required=False)
    billing_threshold = WholeField(least=1, most=AMOUNT_MAX, required=False, allow_null=True)
    seats = SeatsBody(required=False, allow_null=True)
    tax_behavior = serializers.ChoiceField(TAX_BEHAVIORS, required=False)
    tax_code = TextField(max_length=50, allow_blank=True, required=False)
    entitlements = EntitlementBody(many=True, required=False)
    prices = serializers.DictField(child=FurtherPrices(), required=False)
    activate = FlagField(required=False)


class NewPlan(NewVersion):
    """A plan with its first version."""

    key = TextField(max_length=100)
    name = TextField(max_length=200)
    description = TextField(max_length=500, allow_blank=True, required=False)
    public = FlagField(required=False)
    family = TextField(max_length=100, allow_blank=True, required=False)


def terms_in(asked: dict[str, Any]) -> VersionTerms:
    """Take the terms of a version out of a validated body."""
    names = ["currency", "interval", "fee", "trial_days", "trial_card", "trial_end"]
    names += ["grace_days", "minimum", "seats", "billing_threshold", "entitlements", "prices"]
    names += ["tax_behavior", "tax_code"]
    return VersionTerms(**{name: asked.pop(name) for name in names if name in asked})


class EntitlementShape(serializers.Serializer[PlanEntitlement]):
    """A right as it is answered; members that do not belong to its type are null."""

    type = serializers.CharField(source="kind")
    meter = TextOrNull(lambda right: right.meter.key if right.meter else None)
    feature = TextOrNull(lambda right: right.feature)
    value = TextOrNull(lambda right: right.value)
    included = WholeField()
    unlimited = FlagField()
    window = serializers.CharField()
    rollover = WholeField()
    over = serializers.CharField()
    overage_limit = WholeField(allow_null=True)
    price = PriceBody(allow_null=True)

    def to_representation(self, instance: PlanEntitlement) -> dict[str, Any]:
        """Only the members of its type."""
        match instance.kind:
            case "boolean":
                return {"type": "boolean", "feature": instance.feature}
            case "static":
                return {"type": "static", "feature": instance.feature, "value": instance.value}
            case _:
                return {
                    "type": "metered",
                    "meter": instance.meter.key if instance.meter else None,
                    "included": instance.included,
                    "unlimited": instance.unlimited,
                    "window": instance.window,
                    "rollover": instance.rollover,
                    "over": instance.over,
                    "overage_limit": instance.overage_limit,
                    "price": instance.price,
                }


class PricesField(serializers.DictField):
    """The prices of a version by further currency."""

    child = FurtherPrices()

    def get_attribute(self, instance: PlanVersion) -> dict[str, Any]:
        """Read from the rows beside the version."""
        return {
            each.currency: prices_as_data(each, rights_of(each))
            for each in instance.further.order_by("currency")
        }


class PlanVersionShape(serializers.Serializer[PlanVersion]):
    """A version as it is answered: `fee` and `minimum` in minor units per interval; `prices` has
    what it costs in other currencies than `currency`."""

    id = PublicIdField(PlanVersion.PREFIX, source="pk")
    plan = serializers.CharField(source="plan.key")
    number = serializers.IntegerField()
    state = serializers.ChoiceField(PlanVersion.State.values)
    currency = serializers.CharField()
    interval = serializers.ChoiceField(PlanVersion.Interval.values)
    fee = WholeField()
    trial_days = WholeField()
    trial_card = serializers.BooleanField()
    trial_end = serializers.CharField()
    grace_days = WholeField()
    minimum = WholeField()
    billing_threshold = WholeField(allow_null=True)
    seats = SeatsBody(allow_null=True)
    tax_behavior = serializers.CharField()
    tax_code = serializers.CharField()
    prices = PricesField()
    created_at = InstantField()
    activated_at = InstantField(allow_null=True)
    archived_at = InstantField(allow_null=True)
    entitlements = serializers.SerializerMethodField()

    def get_entitlements(self, version: PlanVersion) -> list[dict[str, Any]]:
        """The rights in the order in which they were written."""
        return [EntitlementShape(right).data for right in rights_of(version)]


class PlanShape(serializers.Serializer[Plan]):
    """A plan as it is answered, with the version that is on sale, or its newest."""

    id = PublicIdField(Plan.PREFIX, source="pk")
    key = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    public = serializers.BooleanField()
    family = serializers.CharField()
    created_at = InstantField()
    archived_at = InstantField(allow_null=True)
    version = serializers.SerializerMethodField()

    def get_version(self, plan: Plan) -> dict[str, Any]:
        """The active version, or the newest where none is."""
        versions = plan.versions.filter(base=None)
        active = versions.filter(state=PlanVersion.State.ACTIVE).first()
        shown = active or versions.order_by("-number").first()
        assert shown is not None
        return dict(PlanVersionShape(shown).data)
