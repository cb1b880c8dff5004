"""Wallets and the ledger: money paid ahead, and every movement of money as double entry."""

from __future__ import annotations

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
    UnitPriceField,
    WholeField,
)
from accounts.api.serializing import StrictSerializer
from accounts.api.views import ManagementView, number_of
from billing.domain.ledger import PostingKind
from billing.models import Invoice, LedgerEntry, LedgerPosting, Wallet
from billing.operations import crediting
from billing.operations.plan_shapes import AMOUNT_MAX


class WalletShape(serializers.Serializer[Wallet]):
    """A wallet as it is answered; `balance` is an exact decimal in major units."""

    id = PublicIdField(Wallet.PREFIX, source="pk")
    customer = CustomerField(source="customer_id")
    currency = serializers.CharField()
    balance = UnitPriceField()
    created_at = InstantField()


class TopUp(StrictSerializer):
    """Money paid ahead, in minor units; the same reference counts once."""

    customer = CustomerField()
    amount = WholeField(least=1, most=AMOUNT_MAX)
    reference = TextField(max_length=100)


class EntryShape(serializers.Serializer[LedgerEntry]):
    """One side of a posting: positive a debit, negative a credit, in minor units."""

    account = serializers.CharField()
    amount = serializers.IntegerField()
    currency = serializers.CharField()


class PostingShape(serializers.Serializer[LedgerPosting]):
    """One movement of money; its entries sum to zero."""

    id = PublicIdField(LedgerPosting.PREFIX, source="pk")
    kind = serializers.CharField()
    customer = CustomerField(source="customer_id")
    invoice = PublicIdField(Invoice.PREFIX, source="invoice_id", allow_null=True)
    occurred_at = InstantField()
    created_at = InstantField()
    note = serializers.CharField()
    entries = EntryShape(many=True)


class WalletQuery(StrictSerializer):
    """Whose wallets to list."""

    customer = CustomerField(required=False)


class PostingQuery(StrictSerializer):
    """Which postings to list."""

    customer = CustomerField(required=False)
    invoice = PublicIdField(Invoice.PREFIX, required=False)
    kind = serializers.ChoiceField([each.value for each in PostingKind], required=False)


class Wallets(ManagementView):
    """All wallets."""

    scopes = {"GET": "invoices:read"}

    @describe("List wallets", answer=WalletShape, query=WalletQuery, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List wallets, newest first."""
        return self.page(Wallet.objects.filter(**self.query(WalletQuery)), WalletShape)


class TopUpWallet(ManagementView):
    """Put money into a customer's wallet."""

    scopes = {"POST": "invoices:write"}

    @describe("Top up a wallet", body=TopUp, answer=WalletShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Say that a customer paid ahead; the same `reference` counts once."""
        asked = self.body(TopUp)
        customer = asked.pop("customer")
        wallet = crediting.top_up_wallet(customer.id, **asked, actor=self.actor, now=self.now)
        return Response(WalletShape(wallet).data, status=201)


class OneWallet(ManagementView):
    """One wallet."""

    scopes = {"GET": "invoices:read"}

    @describe("See a wallet", answer=WalletShape)
    def get(self, request: Request, wallet: str) -> Response:  # noqa: ARG002
        """See a wallet."""
        self.query()
        found = Wallet.objects.filter(pk=number_of(Wallet.PREFIX, wallet)).first()
        if found is None:
            raise Http404("There is no such wallet.")
        return Response(WalletShape(found).data)


class LedgerPostings(ManagementView):
    """Every movement of money."""

    scopes = {"GET": "reports:read"}

    @describe("List ledger postings", answer=PostingShape, query=PostingQuery, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List postings with their entries, newest first."""
        asked = self.query(PostingQuery)
        if "invoice" in asked:
            asked["invoice_id"] = asked.pop("invoice")
        found = LedgerPosting.objects.filter(**asked).prefetch_related("entries")
        return self.page(found, PostingShape)
