"""Coupons, and which customer redeemed which."""

from __future__ import annotations

from decimal import Decimal

from django.http import Http404
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.customers import customer_of
from accounts.api.describing import describe
from accounts.api.fields import (
    CustomerField,
    InstantField,
    PublicIdField,
    TextField,
    UnitPriceField,
    WholeField,
)
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView, number_of
from billing.domain.discounts import PERIODS_MAX
from billing.models import Coupon, CouponRedemption
from billing.operations import couponing
from billing.operations.plan_shapes import AMOUNT_MAX
from billing.queries.coupons import coupons, periods_left, redemptions


class AmountsField(serializers.DictField):
    """Minor units by currency."""

    child = WholeField(least=1, most=AMOUNT_MAX)


class CouponShape(serializers.Serializer[Coupon]):
    """A coupon as it is answered; `periods` null: off every bill from then on."""

    id = PublicIdField(Coupon.PREFIX, source="pk")
    code = serializers.CharField()
    name = serializers.CharField()
    percent = UnitPriceField(allow_null=True)
    amounts = AmountsField()
    periods = serializers.IntegerField(allow_null=True)
    plans = serializers.SerializerMethodField()
    max_redemptions = serializers.IntegerField(allow_null=True)
    redemptions = serializers.IntegerField()
    expires_at = InstantField(allow_null=True)
    created_at = InstantField()
    archived_at = InstantField(allow_null=True)

    @extend_schema_field({"type": "array", "items": {"type": "string"}})
    def get_plans(self, coupon: Coupon) -> list[str]:
        """The keys of the plans it is for; none: for all."""
        return sorted(plan.key for plan in coupon.plans.all())


class NewCoupon(StrictSerializer):
    """Either `percent` or `amounts`; `periods` 1 is once, null forever."""

    code = TextField(max_length=40)
    name = TextField(max_length=200)
    percent = UnitPriceField(required=False, allow_null=True)
    amounts = AmountsField(required=False)
    periods = WholeField(least=1, most=PERIODS_MAX, allow_null=True, required=False)
    plans = serializers.ListField(child=TextField(max_length=100), max_length=100, required=False)
    max_redemptions = WholeField(least=1, most=2**31 - 1, allow_null=True, required=False)
    expires_at = InstantField(required=False, allow_null=True)

    def validate_percent(self, percent: Decimal | None) -> Decimal | None:
        """Bounded before it is computed with."""
        if percent is not None and percent > 100:
            raise serializers.ValidationError("A percentage is at most 100.")
        return percent


class RedemptionShape(serializers.Serializer[CouponRedemption]):
    """A coupon that a customer redeemed. `periods_left`: in how many periods it still counts,
    the one under way included; null: in all."""

    id = PublicIdField(CouponRedemption.PREFIX, source="pk")
    customer = CustomerField(source="customer_id")
    coupon = CouponShape()
    redeemed_at = InstantField()
    ended_at = InstantField(allow_null=True)
    periods_left = serializers.SerializerMethodField()

    @extend_schema_field({"type": "integer", "nullable": True})
    def get_periods_left(self, redemption: CouponRedemption) -> int | None:
        """None for a coupon that goes on for ever."""
        return periods_left(redemption)


class RedeemCoupon(StrictSerializer):
    """Its code, in any case."""

    code = TextField(max_length=40)


class Coupons(ManagementView):
    """All coupons."""

    scopes = {"GET": "plans:read", "POST": "plans:write"}

    @describe("List coupons", answer=CouponShape, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List them, newest first, archived ones included."""
        self.query()
        return self.page(coupons(), CouponShape)

    @describe("Make a coupon", body=NewCoupon, answer=CouponShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Make a coupon; its terms never change."""
        made = couponing.create_coupon(**self.body(NewCoupon), actor=self.actor, now=self.now)
        return Response(CouponShape(made).data, status=201)


class OneCoupon(ManagementView):
    """One coupon."""

    scopes = {"GET": "plans:read"}

    @describe("See a coupon", answer=CouponShape)
    def get(self, request: Request, code: str) -> Response:  # noqa: ARG002
        """See a coupon by its code."""
        self.query()
        return Response(CouponShape(_coupon(code)).data)


class ArchiveCoupon(ManagementView):
    """The end of a coupon."""

    scopes = {"POST": "plans:write"}

    @describe("Archive a coupon", body=NoBody, answer=CouponShape)
    def post(self, request: Request, code: str) -> Response:  # noqa: ARG002
        """Let nobody redeem it any more; who has, keeps it."""
        self.body(NoBody)
        archived = couponing.archive_coupon(_coupon(code).pk, actor=self.actor, now=self.now)
        return Response(CouponShape(archived).data)


class CouponsOfCustomer(ManagementView):
    """What one customer redeemed."""

    scopes = {"GET": "subscriptions:read", "POST": "subscriptions:write"}

    @describe("List a customer's coupons", answer=RedemptionShape, page=True)
    def get(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """List what the customer redeemed, newest first, over or not."""
        self.query()
        return self.page(redemptions(customer_of(reference).pk), RedemptionShape)

    @describe("Redeem a coupon", body=RedeemCoupon, answer=RedemptionShape, status=201)
    def post(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Let a coupon count for the customer, from the period under way on."""
        redeemed = couponing.redeem(
            customer_of(reference).pk, **self.body(RedeemCoupon), actor=self.actor, now=self.now
        )
        return Response(RedemptionShape(redeemed).data, status=201)


class EndCouponOfCustomer(ManagementView):
    """The end of a customer's coupon."""

    scopes = {"POST": "subscriptions:write"}

    @describe("End a customer's coupon", body=NoBody, answer=RedemptionShape)
    def post(self, request: Request, reference: str, redemption: str) -> Response:  # noqa: ARG002
        """Let it count no more, the period under way included."""
        self.body(NoBody)
        ended = couponing.end_redemption(
            number_of(CouponRedemption.PREFIX, redemption),
            customer_id=customer_of(reference).pk,
            actor=self.actor,
            now=self.now,
        )
        return Response(RedemptionShape(ended).data)


def _coupon(code: str) -> Coupon:
    found = coupons().filter(code=code.upper()).first()
    if found is None:
        raise Http404("There is no coupon with this code.")
    return found
