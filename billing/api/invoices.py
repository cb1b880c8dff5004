"""Invoices: list, see, preview, void, write off, mark as paid, credit notes."""

from __future__ import annotations

from typing import Any

from django.http import Http404
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
    WholeField,
)
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView, number_of
from billing.api.fields import TextOrNull
from billing.domain.invoices import InvoiceDraft, LineDraft
from billing.models import CreditNote, Invoice, InvoiceLine, Subscription, Wallet
from billing.operations import collecting, crediting
from billing.operations.plan_shapes import AMOUNT_MAX
from billing.queries.invoices import invoice_preview, invoices
from billing.queries.subscriptions import current_subscription


class PeriodShape(serializers.Serializer[Any]):
    """`[start_at, end_at)`, of a subscription its current one."""

    start_at = InstantField()
    end_at = InstantField()

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """The period of a subscription, an invoice, a line or a draft."""
        match instance:
            case Subscription():
                bounds = (instance.current_start_at, instance.current_end_at)
            case Invoice():
                bounds = (instance.period_start_at, instance.period_end_at)
            case _:
                bounds = (instance.start_at, instance.end_at)
        start_at, end_at = (self.fields["start_at"].to_representation(at) for at in bounds)
        return {"start_at": start_at, "end_at": end_at}


class TierShape(serializers.Serializer[Any]):
    """Units number `from_quantity` + 1 to `to_quantity` and what they cost, in major units."""

    from_quantity = serializers.IntegerField()
    to_quantity = serializers.IntegerField()
    quantity = serializers.IntegerField()
    unit_price = serializers.CharField()
    flat_price = serializers.CharField()
    amount = serializers.CharField()
    packages = serializers.IntegerField(required=False)
    bound = serializers.CharField(required=False)


class LineShape(serializers.Serializer[InvoiceLine]):
    """One line, `amount` in minor units; `tiers` and `detail` explain it."""

    id = PublicIdField(InvoiceLine.PREFIX, source="pk")
    kind = serializers.ChoiceField(InvoiceLine.Kind.values)
    description = serializers.CharField()
    meter = TextOrNull(lambda line: line.meter.key if line.meter else None)
    plan = TextOrNull(lambda line: line.version.plan.key if line.version else None)
    quantity = serializers.IntegerField(allow_null=True)
    amount = serializers.IntegerField()
    period = PeriodShape(source="*")
    tiers = serializers.SerializerMethodField()
    detail = serializers.DictField()
    stripe_line = TextOrNull(lambda line: line.stripe_line)

    def get_tiers(self, line: InvoiceLine) -> list[dict[str, Any]]:
        """What each tier took, from the first billed unit of the period on."""
        return list(line.detail.get("tiers", []))


class TaxShape(serializers.Serializer[Any]):
    """A tax that Stripe computed: `amount` on `taxable`, part of the total where `included`."""

    amount = serializers.IntegerField()
    taxable = serializers.IntegerField()
    included = serializers.BooleanField()
    reason = serializers.CharField()


class InvoiceShape(serializers.Serializer[Invoice]):
    """An invoice as it is answered; all amounts are minor units of `currency`.

    `total` is the sum of the lines, `tax` what Stripe computed beside or in it, `total_with_tax`
    what is paid in all.
    """

    id = PublicIdField(Invoice.PREFIX, source="pk")
    number = serializers.CharField(allow_null=True)
    customer = CustomerField(source="customer_id")
    subscription = PublicIdField(Subscription.PREFIX, source="subscription_id", allow_null=True)
    wallet = PublicIdField(Wallet.PREFIX, source="wallet_id", allow_null=True)  # a top-up's
    status = serializers.ChoiceField(Invoice.Status.values)
    currency = serializers.CharField()
    total = serializers.IntegerField()
    tax = serializers.IntegerField()
    tax_status = TextOrNull(lambda invoice: invoice.tax_status)
    taxes = TaxShape(many=True)
    total_with_tax = serializers.IntegerField()
    amount_due = serializers.IntegerField()
    amount_paid = serializers.IntegerField()
    period = PeriodShape(source="*")
    interim = serializers.SerializerMethodField()
    created_at = InstantField()
    issued_at = InstantField(allow_null=True)
    due_at = InstantField(allow_null=True)
    paid_at = InstantField(allow_null=True)
    voided_at = InstantField(allow_null=True)
    carried_to = PublicIdField(Invoice.PREFIX, source="carried_to_id", allow_null=True)
    push = serializers.ChoiceField(Invoice.Push.values)
    push_problem = serializers.CharField()
    stripe_invoice = serializers.CharField(allow_null=True)
    hosted_url = TextOrNull(lambda invoice: invoice.hosted_url)
    attempt_count = serializers.IntegerField()
    next_attempt_at = InstantField(allow_null=True)
    failure_code = TextOrNull(lambda invoice: invoice.failure_code)
    lines = serializers.SerializerMethodField()

    def get_interim(self, invoice: Invoice) -> bool:
        """Whether it bills usage of a period that went on."""
        return bool(invoice.basis.get("interim"))

    def get_lines(self, invoice: Invoice) -> list[dict[str, Any]]:
        """The lines in the order in which people read them; they sum up to `total`."""
        lines = sorted(invoice.lines.all(), key=lambda line: line.position)
        return [dict(LineShape(line).data) for line in lines]


class DraftLineShape(serializers.Serializer[LineDraft]):
    """A line of an invoice that is not issued."""

    kind = serializers.CharField()
    description = serializers.CharField()
    meter = serializers.CharField(allow_null=True)
    quantity = serializers.IntegerField(allow_null=True)
    amount = serializers.IntegerField()
    period = PeriodShape()
    tiers = serializers.SerializerMethodField()

    def get_tiers(self, line: LineDraft) -> list[dict[str, Any]]:
        """What each tier takes."""
        found: Any = line.detail.get("tiers", [])
        return list(found)


class DraftShape(serializers.Serializer[InvoiceDraft]):
    """An invoice as it would be issued now; amounts in minor units."""

    currency = serializers.CharField()
    total = serializers.IntegerField()
    period = PeriodShape()
    lines = DraftLineShape(many=True)


class CreditNoteShape(serializers.Serializer[CreditNote]):
    """A credit note as it is answered, `amount` in minor units of the invoice's currency."""

    id = PublicIdField(CreditNote.PREFIX, source="pk")
    invoice = PublicIdField(Invoice.PREFIX, source="invoice_id")
    number = serializers.CharField()
    amount = serializers.IntegerField()
    currency = serializers.CharField(source="invoice.currency")
    reason = serializers.CharField()
    created_at = InstantField()


class NewCreditNote(StrictSerializer):
    """What to give back of an invoice, in minor units."""

    amount = WholeField(least=1, most=AMOUNT_MAX)
    reason = TextField(max_length=500)


class Payment(StrictSerializer):
    """How the money came: a bank reference, and when."""

    reference = TextField(max_length=200, allow_blank=True, required=False, default="")
    at = InstantField(allow_null=True, required=False)


class InvoiceQuery(StrictSerializer):
    """Which invoices to list."""

    customer = CustomerField(required=False)
    status = serializers.ChoiceField(Invoice.Status.values, required=False)


class Invoices(ManagementView):
    """All invoices."""

    scopes = {"GET": "invoices:read"}

    @describe("List invoices", answer=InvoiceShape, query=InvoiceQuery, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List invoices with their lines, newest first."""
        asked = self.query(InvoiceQuery)
        customer = asked.get("customer")
        found = invoices(customer_id=customer.id if customer else None, status=asked.get("status"))
        return self.page(found, InvoiceShape)


class OneInvoice(ManagementView):
    """One invoice."""

    scopes = {"GET": "invoices:read"}

    @describe("See an invoice", answer=InvoiceShape)
    def get(self, request: Request, invoice: str) -> Response:  # noqa: ARG002
        """See an invoice with its lines, tier by tier."""
        self.query()
        return _answer(invoice_of(invoice).id)


class InvoicePreviewOfCustomer(ManagementView):
    """The invoice that a customer's period under way would give."""

    scopes = {"GET": "invoices:read"}

    @describe("Preview a customer's next invoice", answer=DraftShape)
    def get(self, request: Request, reference: str) -> Response:  # noqa: ARG002
        """See the invoice of the current period as it would be issued now."""
        self.query()
        subscription = current_subscription(customer_of(reference).id)
        draft = invoice_preview(subscription) if subscription else None
        if draft is None:
            raise Http404("There is no invoice to come for this customer.")
        return Response(DraftShape(draft).data)


class VoidInvoice(ManagementView):
    """Take an invoice back."""

    scopes = {"POST": "invoices:write"}

    @describe("Void an invoice", body=NoBody, answer=InvoiceShape)
    def post(self, request: Request, invoice: str) -> Response:  # noqa: ARG002
        """Take back an invoice that should never have been; twice changes nothing.

        Where Stripe collects it, a worker has it voided there; money that came in until then is
        posted, to be given back.
        """
        self.body(NoBody)
        found = invoice_of(invoice)
        collecting.void(found.id, actor=self.actor, now=self.now)
        return _answer(found.id)


class MarkUncollectible(ManagementView):
    """Write an invoice off."""

    scopes = {"POST": "invoices:write"}

    @describe("Mark an invoice uncollectible", body=NoBody, answer=InvoiceShape)
    def post(self, request: Request, invoice: str) -> Response:  # noqa: ARG002
        """Expect the money no more; the customer still owes it. Twice changes nothing.

        Where Stripe collects it, a worker has it written off there too.
        """
        self.body(NoBody)
        found = invoice_of(invoice)
        collecting.mark_uncollectible(found.id, actor=self.actor, now=self.now)
        return _answer(found.id)


class MarkPaid(ManagementView):
    """The money came outside of Stripe."""

    scopes = {"POST": "invoices:write"}

    @describe("Mark an invoice as paid outside", body=Payment, answer=InvoiceShape)
    def post(self, request: Request, invoice: str) -> Response:  # noqa: ARG002
        """Say that the whole amount due was received outside of Stripe; twice changes nothing."""
        found = invoice_of(invoice)
        asked = self.body(Payment)
        collecting.mark_paid_manually(found.id, **asked, actor=self.actor, now=self.now)
        return _answer(found.id)


class CreditNotes(ManagementView):
    """The credit notes of an invoice."""

    scopes = {"GET": "invoices:read", "POST": "invoices:write"}

    @describe("List an invoice's credit notes", answer=CreditNoteShape, page=True)
    def get(self, request: Request, invoice: str) -> Response:  # noqa: ARG002
        """List the credit notes of an invoice, newest first."""
        self.query()
        notes = CreditNote.objects.filter(invoice=invoice_of(invoice))
        return self.page(notes.select_related("invoice"), CreditNoteShape)

    @describe("Issue a credit note", body=NewCreditNote, answer=CreditNoteShape, status=201)
    def post(self, request: Request, invoice: str) -> Response:  # noqa: ARG002
        """Give back part of an issued invoice as credit on the next ones."""
        found = invoice_of(invoice)
        asked = self.body(NewCreditNote)
        note = crediting.credit_note(found.id, **asked, actor=self.actor, now=self.now)
        return Response(CreditNoteShape(note).data, status=201)


def invoice_of(public_id: str) -> Invoice:
    """The invoice of an address; raises Http404."""
    found = invoices().filter(pk=number_of(Invoice.PREFIX, public_id)).first()
    if found is None:
        raise Http404("There is no such invoice.")
    return found


def _answer(invoice_id: int) -> Response:
    return Response(InvoiceShape(invoices().get(pk=invoice_id)).data)
