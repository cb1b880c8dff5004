"""Subscriptions: start, list, see, change the plan with a preview, pause, resume, cancel, keep."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import (
    CustomerField,
    InstantField,
    PublicIdField,
    TextField,
    WholeField,
)
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView, number_of
from billing.api.fields import TextOrNull
from billing.api.invoices import DraftShape, PeriodShape
from billing.domain.plan_changes import ChangeWhen
from billing.domain.seats import SEATS_MAX
from billing.models import PlanVersion, Subscription
from billing.operations import changing, seating, subscribing, thresholds
from billing.operations.plan_shapes import AMOUNT_MAX
from billing.queries.subscriptions import subscriptions

WHENS = tuple(each.value for each in ChangeWhen)


class SubscriptionShape(serializers.Serializer[Subscription]):
    """A subscription as it is answered; `plan` is the plan's key."""

    id = PublicIdField(Subscription.PREFIX, source="pk")
    customer = CustomerField(source="customer_id")
    plan = serializers.CharField(source="version.plan.key")
    plan_version = PublicIdField(PlanVersion.PREFIX, source="version.sold_id")
    currency = serializers.CharField(source="version.currency")
    pending_plan = TextOrNull(
        lambda each: each.pending_version.plan.key if each.pending_version else None
    )
    seats = serializers.IntegerField()
    pending_seats = serializers.IntegerField(allow_null=True)
    billing_threshold = serializers.IntegerField(allow_null=True)
    billed_until_at = InstantField(allow_null=True)
    status = serializers.ChoiceField(Subscription.Status.values)
    collection = serializers.ChoiceField(Subscription.Collection.values)
    current_period = PeriodShape(source="*")
    start_at = InstantField()
    anchor_at = InstantField()
    trial_end_at = InstantField(allow_null=True)
    past_due_at = InstantField(allow_null=True)
    grace_ends_at = InstantField(allow_null=True)
    paused_at = InstantField(allow_null=True)
    cancel_at = InstantField(allow_null=True)
    canceled_at = InstantField(allow_null=True)
    created_at = InstantField()


class PreviewShape(serializers.Serializer[changing.ChangePreview]):
    """What a change would do: `invoice` is the period's as far as usage is known."""

    when = serializers.ChoiceField(WHENS)
    effective_at = InstantField()
    restarts_period = serializers.BooleanField()
    next_fee = WholeField(help_text="The fee of a whole period afterwards, in minor units.")
    invoice = DraftShape()


class NewSubscription(StrictSerializer):
    """A subscription to be started."""

    customer = CustomerField()
    plan = TextField(max_length=100)
    seats = WholeField(least=1, most=SEATS_MAX, required=False)
    start_at = InstantField(allow_null=True, required=False)
    anchor = serializers.ChoiceField(("start", "calendar"), required=False)
    collection = serializers.ChoiceField(Subscription.Collection.values, required=False)


class Change(StrictSerializer):
    """To which plan (key or id), and when; without `when` an upgrade now, another later."""

    plan = TextField(max_length=100)
    when = serializers.ChoiceField(WHENS, required=False, allow_null=True)


class Seats(StrictSerializer):
    """How many seats, and from when; without `when` more now, fewer later."""

    seats = WholeField(least=1, most=SEATS_MAX)
    when = serializers.ChoiceField(WHENS, required=False, allow_null=True)


class Threshold(StrictSerializer):
    """What usage may come to before it is billed, in minor units; null: what the plan says."""

    amount = WholeField(least=1, most=AMOUNT_MAX, allow_null=True)


class Cancellation(StrictSerializer):
    """When it ends."""

    when = serializers.ChoiceField(WHENS, required=False, default="period_end")


class SubscriptionQuery(StrictSerializer):
    """Which subscriptions to list."""

    customer = CustomerField(required=False)
    status = serializers.ChoiceField(Subscription.Status.values, required=False)


class Subscriptions(ManagementView):
    """All subscriptions."""

    scopes = {"GET": "subscriptions:read", "POST": "subscriptions:write"}

    @describe("List subscriptions", answer=SubscriptionShape, query=SubscriptionQuery, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List subscriptions, newest first."""
        asked = self.query(SubscriptionQuery)
        customer = asked.get("customer")
        found = subscriptions(
            customer_id=customer.id if customer else None, status=asked.get("status")
        )
        return self.page(found, SubscriptionShape)

    @describe("Start a subscription", body=NewSubscription, answer=SubscriptionShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Subscribe a customer to the version of a plan that is on sale, from now or earlier."""
        asked = self.body(NewSubscription)
        customer = asked.pop("customer")
        made = subscribing.subscribe(customer.id, **asked, actor=self.actor, now=self.now)
        return _answer(made, status=201)


class OneSubscription(ManagementView):
    """One subscription."""

    scopes = {"GET": "subscriptions:read"}

    @describe("See a subscription", answer=SubscriptionShape)
    def get(self, request: Request, subscription: str) -> Response:  # noqa: ARG002
        """See a subscription."""
        self.query()
        return _answer(subscription_of(subscription))


class ChangePlan(ManagementView):
    """Change the plan of a subscription."""

    scopes = {"POST": "subscriptions:write"}

    @describe("Change the plan", body=Change, answer=SubscriptionShape)
    def post(self, request: Request, subscription: str) -> Response:  # noqa: ARG002
        """Change to another plan now or when the period ends."""
        found = subscription_of(subscription)
        changed = changing.change_plan(
            found.id, **_change(self.body(Change)), actor=self.actor, now=self.now
        )
        return _answer(changed)


class SetThreshold(ManagementView):
    """A billing threshold of one subscription."""

    scopes = {"POST": "subscriptions:write"}

    @describe("Set a billing threshold", body=Threshold, answer=SubscriptionShape)
    def post(self, request: Request, subscription: str) -> Response:  # noqa: ARG002
        """Bill usage as soon as it comes to this amount, and the rest when the period ends."""
        found = subscription_of(subscription)
        asked = self.body(Threshold)
        made = thresholds.set_billing_threshold(found.id, **asked, actor=self.actor, now=self.now)
        return _answer(made)


class PreviewChange(ManagementView):
    """What a change of plan would do."""

    scopes = {"POST": "subscriptions:read"}

    @describe("Preview a change of plan", body=Change, answer=PreviewShape)
    def post(self, request: Request, subscription: str) -> Response:  # noqa: ARG002
        """Say what the change would do and cost, without doing it."""
        found = subscription_of(subscription)
        preview = changing.preview_change(found.id, **_change(self.body(Change)), now=self.now)
        return Response(PreviewShape(preview).data)


class ChangeSeats(ManagementView):
    """Change how many seats a subscription has."""

    scopes = {"POST": "subscriptions:write"}

    @describe("Change the seats", body=Seats, answer=SubscriptionShape)
    def post(self, request: Request, subscription: str) -> Response:  # noqa: ARG002
        """More seats hold at once, fewer when the period ends."""
        found = subscription_of(subscription)
        asked = self.body(Seats)
        when = ChangeWhen(asked["when"]) if asked.get("when") else None
        changed = seating.change_seats(
            found.id, seats=asked["seats"], when=when, actor=self.actor, now=self.now
        )
        return _answer(changed)


class PauseSubscription(ManagementView):
    """Deny calls and bill no further periods."""

    scopes = {"POST": "subscriptions:write"}

    @describe("Pause a subscription", body=NoBody, answer=SubscriptionShape)
    def post(self, request: Request, subscription: str) -> Response:  # noqa: ARG002
        """Deny calls from now on; twice changes nothing."""
        self.body(NoBody)
        found = subscription_of(subscription)
        return _answer(subscribing.pause(found.id, actor=self.actor, now=self.now))


class ResumeSubscription(ManagementView):
    """Serve a paused subscription again."""

    scopes = {"POST": "subscriptions:write"}

    @describe("Resume a subscription", body=NoBody, answer=SubscriptionShape)
    def post(self, request: Request, subscription: str) -> Response:  # noqa: ARG002
        """Serve again; twice changes nothing."""
        self.body(NoBody)
        found = subscription_of(subscription)
        return _answer(subscribing.resume(found.id, actor=self.actor, now=self.now))


class CancelSubscription(ManagementView):
    """End a subscription."""

    scopes = {"POST": "subscriptions:write"}

    @describe("Cancel a subscription", body=Cancellation, answer=SubscriptionShape)
    def post(self, request: Request, subscription: str) -> Response:  # noqa: ARG002
        """End it at once, or when its period ends; twice changes nothing."""
        asked = self.body(Cancellation)
        found = subscription_of(subscription)
        ended = subscribing.cancel(found.id, when=asked["when"], actor=self.actor, now=self.now)
        return _answer(ended)


class KeepSubscription(ManagementView):
    """Take back a cancellation that is to come."""

    scopes = {"POST": "subscriptions:write"}

    @describe("Keep a subscription", body=NoBody, answer=SubscriptionShape)
    def post(self, request: Request, subscription: str) -> Response:  # noqa: ARG002
        """Take back a cancellation that has not taken effect."""
        self.body(NoBody)
        found = subscription_of(subscription)
        return _answer(subscribing.keep(found.id, actor=self.actor, now=self.now))


def subscription_of(public_id: str) -> Subscription:
    """The subscription of an address; raises Http404."""
    number = number_of(Subscription.PREFIX, public_id)
    found = subscriptions().filter(pk=number).first()
    if found is None:
        raise Http404("There is no such subscription.")
    return found


def _change(asked: dict[str, Any]) -> dict[str, Any]:
    when = asked.get("when")
    return {"plan": asked["plan"], "when": ChangeWhen(when) if when else None}


def _answer(subscription: Subscription, *, status: int = 200) -> Response:
    return Response(SubscriptionShape(subscription).data, status=status)
