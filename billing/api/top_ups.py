"""Top-ups of wallets: charged when asked for, or by themselves when the balance runs low."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.authentication import CallerKind
from accounts.api.customers import customer_of
from accounts.api.describing import describe
from accounts.api.fields import InstantField, PublicIdField, UnitPriceField, WholeField
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView, number_of
from accounts.models import Customer
from billing.api.fields import TextOrNull
from billing.domain.top_ups import (
    AMOUNT_MAX,
    AutoTopUpTerms,
    TopUpStatus,
    status_of_top_up,
)
from billing.models import Invoice, Wallet
from billing.operations import topping_up
from billing.payments.charging import charge_at_once
from billing.queries.top_ups import AutoTopUpView, auto_top_up_view, top_ups


class StatusField(serializers.ChoiceField):
    """Where a top-up stands."""

    def get_attribute(self, instance: Invoice) -> Any:
        """Read it off the invoice."""
        return status_of_top_up(
            instance.status, amount_paid=instance.amount_paid, failure_code=instance.failure_code
        )


class TopUpShape(serializers.Serializer[Invoice]):
    """A top-up, in minor units. It is an invoice that nobody owes: its `id` is the invoice's.

    `action_required`: the bank wants the customer to confirm, at `url`.
    """

    id = PublicIdField(Invoice.PREFIX, source="pk")
    number = serializers.CharField()
    wallet = PublicIdField(Wallet.PREFIX, source="wallet_id")
    amount = serializers.IntegerField(source="total")
    currency = serializers.CharField()
    status = StatusField(choices=[each.value for each in TopUpStatus])
    automatic = serializers.BooleanField()
    failure_code = TextOrNull(lambda each: each.failure_code or None)
    url = TextOrNull(lambda each: each.hosted_url or None)
    created_at = InstantField()
    paid_at = InstantField(allow_null=True)


class NewTopUp(StrictSerializer):
    """What to charge, in minor units of the customer's currency."""

    amount = WholeField(least=1, most=AMOUNT_MAX)


class AutoTopUpShape(serializers.Serializer[AutoTopUpView]):
    """When the wallet is topped up by itself, in minor units; null: never set.

    `balance`: an exact decimal in major units. `topped_up`: what counts against the cap in this
    calendar month (UTC). Suppressed, nothing is tried: the top-up `suppressed_by` failed, was
    canceled, or was refunded.
    """

    currency = serializers.CharField()
    balance = UnitPriceField()
    enabled = serializers.BooleanField()
    threshold = serializers.IntegerField(allow_null=True)
    amount = serializers.IntegerField(allow_null=True)
    monthly_cap = serializers.IntegerField(allow_null=True)
    topped_up = serializers.IntegerField()
    suppressed_at = InstantField(allow_null=True)
    suppressed_code = serializers.CharField(allow_null=True)
    suppressed_by = TextOrNull(
        lambda each: each.suppressed_by.public_id if each.suppressed_by else None
    )


class NewAutoTopUp(StrictSerializer):
    """Below `threshold` charge `amount`, in a calendar month (UTC) `monthly_cap` at most."""

    threshold = WholeField(least=1, most=AMOUNT_MAX)
    amount = WholeField(least=1, most=AMOUNT_MAX)
    monthly_cap = WholeField(least=1)


class TopUpsOfCustomer(ManagementView):
    """A customer's top-ups."""

    scopes = {"GET": "invoices:read", "POST": "invoices:write"}
    # Stripe is called between two commits; a repeat finds what was begun by its request key.
    one_transaction = False

    @describe("List a customer's top-ups", answer=TopUpShape, page=True)
    def get(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """List top-ups, newest first."""
        self.query()
        return self.page(top_ups(customer_of(reference).pk), TopUpShape)

    @describe("Charge a top-up", body=NewTopUp, answer=TopUpShape, status=201)
    def post(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Charge the customer's payment method for its wallet; `pending` where Stripe is away."""
        amount = self.body(NewTopUp)["amount"]
        top_up = topping_up.begin_top_up(
            customer_of(reference).pk,
            amount=amount,
            actor=self.actor,
            request_key=self.request_key,
            now=self.now,
        )
        return Response(TopUpShape(charge_at_once(top_up, now=self.now)).data, status=201)


class CancelTopUpOfCustomer(ManagementView):
    """Give a top-up up."""

    scopes = {"POST": "invoices:write"}

    @describe("Cancel a top-up", body=NoBody, answer=TopUpShape)
    def post(self, request: Request, reference: str, top_up: str) -> Response:  # noqa: ARG002
        """Give up what is not paid; an automatic one stops the others until switched on again."""
        self.body(NoBody)
        canceled = topping_up.cancel_top_up(
            customer_of(reference).pk,
            top_up_id=number_of(Invoice.PREFIX, top_up),
            actor=self.actor,
            now=self.now,
        )
        return Response(TopUpShape(canceled).data)


class MyTopUps(ManagementView):
    """The customer's own top-ups."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"customer"})

    @describe("List this customer's top-ups", answer=TopUpShape, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List top-ups, newest first. Charging one takes a person, in the portal."""
        self.query()
        return self.page(top_ups(self.customer_id), TopUpShape)


class _SetsAutoTopUp(ManagementView):
    def _shown(self, customer: Customer) -> Response:
        return Response(AutoTopUpShape(auto_top_up_view(customer, now=self.now)).data)

    def _asked(self) -> AutoTopUpTerms:
        return AutoTopUpTerms(**self.body(NewAutoTopUp))

    def _stop(self, customer: Customer) -> Response:
        topping_up.stop_auto_top_up(customer.pk, actor=self.actor, now=self.now)
        return self._shown(customer)


class AutoTopUpOfCustomer(_SetsAutoTopUp):
    """When a customer's wallet is topped up by itself."""

    scopes = {"GET": "invoices:read", "PUT": "invoices:write", "DELETE": "invoices:write"}

    @describe("See a customer's automatic top-ups", answer=AutoTopUpShape)
    def get(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """See the terms, the balance, and why they are suppressed if they are."""
        self.query()
        return self._shown(customer_of(reference))

    @describe("Set a customer's automatic top-ups", body=NewAutoTopUp, answer=AutoTopUpShape)
    def put(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Switch them on with these terms, and on again where they are suppressed."""
        customer = customer_of(reference)
        topping_up.set_auto_top_up(customer.pk, terms=self._asked(), actor=self.actor, now=self.now)
        return self._shown(customer)

    @describe("Switch a customer's automatic top-ups off", body=NoBody, answer=AutoTopUpShape)
    def delete(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """Switch them off; one that is under way goes on."""
        self.body(NoBody)
        return self._stop(customer_of(reference))


class MyAutoTopUp(_SetsAutoTopUp):
    """When the customer's own wallet is topped up by itself."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"customer"})

    @describe("See this customer's automatic top-ups", answer=AutoTopUpShape)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """See the terms, the balance, and why they are suppressed if they are."""
        self.query()
        return self._shown(self._own())

    @describe("Lower one's own automatic top-ups", body=NewAutoTopUp, answer=AutoTopUpShape)
    def put(self, request: Request) -> Response:  # noqa: ARG002
        """Lower the terms; raising them and switching on takes a person, in the portal."""
        own = self._own()
        topping_up.tighten_auto_top_up(own.pk, terms=self._asked(), actor=self.actor, now=self.now)
        return self._shown(own)

    @describe("Switch one's own automatic top-ups off", body=NoBody, answer=AutoTopUpShape)
    def delete(self, request: Request) -> Response:  # noqa: ARG002
        """Switch them off; one that is under way goes on."""
        self.body(NoBody)
        return self._stop(self._own())

    def _own(self) -> Customer:
        return Customer.objects.get(pk=self.customer_id)
