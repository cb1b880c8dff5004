"""Usage and entitlements: of any customer for operators, of its own for a customer's key."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar, cast, get_args

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.authentication import CallerKind
from accounts.api.customers import customer_of
from accounts.api.describing import describe
from accounts.api.fields import CustomerField, InstantField, TextField, instant
from accounts.api.views import ManagementView
from accounts.domain import ids
from accounts.models import Customer
from metering.api.fields import MeterField, SpanQuery, until
from metering.queries.balances import BalanceView, entitlements
from metering.queries.meters import dimensions_of_all
from metering.queries.usage import Bucket, usage

_SPAN_MAX: dict[str, timedelta] = {
    "hour": timedelta(days=100),
    "day": timedelta(days=5 * 366),
    "month": timedelta(days=100 * 366),
    "total": timedelta(days=100 * 366),
}


class UsagePointShape(serializers.Serializer[Any]):
    """Usage in `[start_at, end_at)` of one group."""

    start_at = InstantField()
    end_at = InstantField()
    group = serializers.DictField(child=serializers.CharField())
    quantity = serializers.IntegerField()


class UsageShape(serializers.Serializer[Any]):
    """Usage by time and group, in order; buckets without usage are absent."""

    data = UsagePointShape(many=True)  # type: ignore[assignment]  # a member


class MyUsageQuery(SpanQuery):
    """Which usage: of which meter, when (this month so far), in which buckets and groups."""

    meter = MeterField()
    bucket = serializers.ChoiceField(choices=get_args(Bucket), default="total")
    group_by = TextField(
        required=False, help_text="Dimensions of any version of the meter, with commas between."
    )


class UsageQuery(MyUsageQuery):
    """As `/me/usage`, of one customer."""

    customer = CustomerField()


class BalanceShape(serializers.Serializer[Any]):
    """A meter in a window; quantities in the meter's unit, open holds in `held`."""

    meter = serializers.CharField()
    unit = serializers.CharField()
    window = serializers.CharField()
    start_at = InstantField()
    resets_at = InstantField(allow_null=True)
    included = serializers.IntegerField()
    granted = serializers.IntegerField()
    used = serializers.IntegerField()
    held = serializers.IntegerField()
    remaining = serializers.IntegerField()
    overage = serializers.IntegerField()
    overage_limit = serializers.IntegerField(allow_null=True)
    over = serializers.ChoiceField(choices=["deny", "bill"])
    unlimited = serializers.BooleanField()


class FeatureShape(serializers.Serializer[Any]):
    """A feature; `value` only of a static one."""

    feature = serializers.CharField()
    type = serializers.ChoiceField(choices=["boolean", "static"])
    value = serializers.CharField(allow_null=True)
    ends_at = InstantField(allow_null=True)


class EntitlementsShape(serializers.Serializer[Any]):
    """All that a customer may use now."""

    customer = CustomerField()
    plan = serializers.CharField()
    plan_name = serializers.CharField()
    suspended = serializers.BooleanField()
    deny_code = serializers.CharField(allow_null=True)
    deny_at = InstantField(allow_null=True)
    balances = BalanceShape(many=True)
    features = FeatureShape(many=True)


class Usage(ManagementView):
    """Usage of a customer."""

    scopes = {"GET": "reports:read"}

    @describe("See usage", answer=UsageShape, query=UsageQuery)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """See a customer's usage of a meter, exact to this moment."""
        asked = self.query(UsageQuery)
        return Response(usage_body(asked.pop("customer").id, asked, now=self.now))


class MyUsage(ManagementView):
    """Usage of the customer whose key this is."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"customer"})

    @describe("See this customer's usage", answer=UsageShape, query=MyUsageQuery)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """See this customer's usage of a meter, exact to this moment."""
        return Response(usage_body(self.customer_id, self.query(MyUsageQuery), now=self.now))


class CustomerEntitlements(ManagementView):
    """Entitlements and balances of a customer."""

    scopes = {"GET": "customers:read"}

    @describe("See a customer's entitlements", answer=EntitlementsShape)
    def get(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """See what a customer may use now, and what is left of it."""
        self.query()
        return Response(entitlements_body(customer_of(reference).id, now=self.now))


class MyEntitlements(ManagementView):
    """Entitlements and balances of the customer whose key this is."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"customer"})

    @describe("See this customer's entitlements", answer=EntitlementsShape)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """See what this customer may use now, and what is left of it."""
        self.query()
        return Response(entitlements_body(self.customer_id, now=self.now))


def usage_body(customer_id: int, asked: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    """The answer of `/usage`; raises ValidationError for groups or spans that do not fit."""
    meter, bucket = asked["meter"], asked["bucket"]
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start_at, end_at = asked.get("from", month), asked.get("to", now)
    if end_at - start_at > _SPAN_MAX[bucket]:
        raise _refused("from", f"At most {_SPAN_MAX[bucket].days} days by {bucket}.")
    group_by = [name for name in asked.get("group_by", "").split(",") if name]
    dimensions = dimensions_of_all(meter) if group_by else []
    for name in group_by:
        if name not in dimensions:
            known = ", ".join(dimensions) or "none"
            raise _refused("group_by", f"The meter has no dimension {name}; it has: {known}.")
    points = usage(
        customer_id,
        meter_id=meter.id,
        start_at=start_at,
        end_at=end_at,
        bucket=cast("Bucket", bucket),
        group_by=list(dict.fromkeys(group_by)),
    )
    return {
        "data": [
            {
                "start_at": instant(each.start_at),
                "end_at": instant(each.end_at),
                "group": each.group,
                "quantity": each.quantity,
            }
            for each in points
        ]
    }


def entitlements_body(customer_id: int, *, now: datetime) -> dict[str, Any]:
    """The answer of `/customers/{id}/entitlements`; also a part of a customer's state."""
    found = entitlements(customer_id, now=now)
    return {
        "customer": ids.encode(Customer.PREFIX, customer_id),
        "plan": found.plan,
        "plan_name": found.plan_name,
        "suspended": found.suspended,
        "deny_code": found.deny_code or None,
        "deny_at": until(found.deny_at),
        "balances": [balance_body(each) for each in found.balances],
        "features": [
            {
                "feature": each.feature,
                "type": "boolean" if each.value is None else "static",
                "value": each.value,
                "ends_at": until(each.ends_at),
            }
            for each in found.features
        ],
    }


def balance_body(view: BalanceView) -> dict[str, Any]:
    """A balance as every answer shows it."""
    return {
        "meter": view.meter,
        "unit": view.unit,
        "window": view.window,
        "start_at": instant(view.start_at),
        "resets_at": until(view.resets_at),
        "included": view.included,
        "granted": view.granted,
        "used": view.used,
        "held": view.held,
        "remaining": view.remaining,
        "overage": view.overage,
        "overage_limit": view.overage_limit if view.over == "bill" else 0,
        "over": view.over,
        "unlimited": view.unlimited,
    }


def _refused(param: str, sentence: str) -> ValidationError:
    return ValidationError({param: [ErrorDetail(sentence, code="invalid")]})
