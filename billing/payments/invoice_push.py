"""One invoice on its way to Stripe: create, add lines, compare, finalize.

Until it has been compared, the invoice at Stripe is a draft that cannot be charged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import QuerySet

from billing.domain import steps
from billing.domain.comparison import (
    InvoiceImage,
    LineImage,
    compare_invoice,
    invoice_digest,
    missing_lines,
)
from billing.domain.money import currency_of
from billing.domain.steps import PlannedStep, StepKind, StepState
from billing.models import Invoice, InvoiceLine, StripeStep
from billing.operations import collecting
from billing.operations.taxing import LOCATION_MISSING
from billing.payments import client, customers, mirroring, stepping
from billing.payments.lines import asks_tax, lines_told, told_amount

Json = dict[str, Any]
Clock = Callable[[], datetime]

# How often lines that are missing at Stripe are added again before a person must look.
ADDED_AGAIN: Final = 3
LOCATION_REFUSED: Final = "customer_tax_location_invalid"  # Stripe's code
PUSHING: Final = (StepKind.CREATE, StepKind.ADD_LINES, StepKind.COMPARE, StepKind.FINALIZE)


class TaxNotComputed(Exception):
    """Stripe cannot say yet what tax is on the invoice; ``status`` is Stripe's word for why."""

    def __init__(self, status: str) -> None:
        super().__init__(
            "Stripe Tax cannot place the customer: its billing address is missing or incomplete "
            "(country, postal code)."
            if status == LOCATION_MISSING
            else f"Stripe Tax did not compute the tax ({status}); it is asked again."
        )
        self.status = status


class InvoiceDiffers(Exception):
    """Stripe's invoice is not the one we meant, or ours cannot be collected as it is."""


def push_invoice(invoice: Invoice, *, clock: Clock) -> None:
    """Take every step that is not done yet; start over where an operator released it, or where
    somebody deleted the draft at Stripe.

    Raises StepWaits, StepQuarantined, TaxNotComputed, InvoiceDiffers, StripeStopped,
    StripeUnreachable.
    """
    push = _Push.of(invoice, clock=clock)
    try:
        push.run()
    except client.StripeRefused:
        if not push.draft_is_gone():
            raise
        stepping.reopen(invoice.public_id, kinds=PUSHING, even_pending=True)
        push.run()


@dataclass(frozen=True, slots=True)
class _Push:
    """One invoice on its way."""

    invoice: Invoice
    lines: Sequence[InvoiceLine]
    told: Sequence[Json]  # the lines as Stripe is told them
    ours: InvoiceImage
    clock: Clock

    @classmethod
    def of(cls, invoice: Invoice, *, clock: Clock) -> _Push:
        lines = list(invoice.lines.order_by("position"))
        told = lines_told(invoice, lines)
        images = tuple(LineImage(_line_id(line), told_amount(line)) for line in told)
        total, currency = sum(line.amount for line in lines), invoice.currency
        if total != invoice.total:
            raise InvoiceDiffers(f"The lines sum to {total}, the total is {invoice.total}.")
        if total < currency_of(currency).minimum_charge:
            # Stripe would call it paid and collect nothing.
            raise InvoiceDiffers(f"{total} {currency} is below what Stripe charges.")
        if len(lines) > steps.LINES_PER_INVOICE:
            raise InvoiceDiffers(f"{len(lines)} lines are more than Stripe takes.")
        digest = invoice_digest(total, currency=currency, lines=images)
        return cls(invoice, lines, told, InvoiceImage(total, currency, images, digest), clock)

    def run(self) -> None:
        if self._steps().filter(state=StripeStep.State.QUARANTINED).exists():
            self._start_over()
        compared: dict[str, str] | None = None
        finalized: Json = {}
        while True:
            tried = self._tried()
            if compared is not None:
                tried.append(StepState(StepKind.COMPARE, chunk=0, attempt=1, done=True))
            step = steps.next_step(tried, line_count=len(self.told))
            if step is None:
                break
            match step.kind:
                case StepKind.CREATE:
                    self._create()
                case StepKind.ADD_LINES:
                    self._add_lines(step)
                case StepKind.COMPARE:
                    compared = self._compare()
                case StepKind.FINALIZE:
                    finalized = self._finalize()
                case other:
                    raise AssertionError(other)
        finalized = finalized or client.read(f"/v1/invoices/{self._stripe_invoice()}")
        collecting.mark_pushed(
            self.invoice.pk,
            stripe_invoice=self._stripe_invoice(),
            hosted_url=finalized.get("hosted_invoice_url") or "",
            stripe_lines={line.pk: (compared or {}).get(line.public_id, "") for line in self.lines},
            tax=mirroring.tax_of(finalized) if mirroring.tax_status(finalized) else None,
            tax_status=mirroring.tax_status(finalized),
            now=self.clock(),
        )

    def draft_is_gone(self) -> bool:
        """Whether the draft was made and is not there any more; what is finalized stays."""
        created = stepping.latest(self.invoice.public_id, kind=StepKind.CREATE)
        if created is None or created.answer is None or "id" not in created.answer:
            return False
        return _status_at(f"/v1/invoices/{created.answer['id']}") == "gone"

    def _steps(self) -> QuerySet[StripeStep]:
        kinds = [kind.value for kind in PUSHING]
        return StripeStep.objects.filter(subject=self.invoice.public_id, kind__in=kinds)

    def _tried(self) -> list[StepState]:
        """What is done. Comparing counts only in the run that finalizes: drafts can be edited."""
        done = self._steps().filter(state=StripeStep.State.DONE)
        return [
            StepState(StepKind(row.kind), chunk=row.chunk, attempt=row.attempt, done=True)
            for row in done.exclude(kind=StepKind.COMPARE.value)
        ]

    def _start_over(self) -> None:
        """Somebody looked at the quarantine and wants it pushed: away with the wrong draft."""
        created = stepping.latest(self.invoice.public_id, kind=StepKind.CREATE)
        if created is not None and created.answer is not None and "id" in created.answer:
            path = f"/v1/invoices/{created.answer['id']}"
            if _status_at(path) == "draft":
                client.delete(path)
        stepping.reopen(self.invoice.public_id, kinds=PUSHING)

    def _stripe_invoice(self) -> str:
        step = stepping.latest(self.invoice.public_id, kind=StepKind.CREATE)
        assert step is not None
        assert step.answer is not None
        return str(step.answer["id"])

    def _create(self) -> None:
        customer = customers.ensure_customer(self.invoice.customer, now=self.clock())
        kind = "Top-up" if self.invoice.wallet_id else "Invoice"
        params: Json = {
            "auto_advance": False,
            "collection_method": "charge_automatically",
            "currency": self.ours.currency,
            "customer": customer.stripe_customer,
            "description": f"{kind} {self.invoice.number}",
            "metadata": {
                "farebox_invoice": self.invoice.public_id,
                "farebox_digest": self.ours.digest,
                "farebox_number": self.invoice.number,
            },
            "pending_invoice_items_behavior": "exclude",
        }
        if asks_tax(self.invoice):
            params["automatic_tax"] = {"enabled": True}
        call = self._call(StepKind.CREATE, "/v1/invoices", params)
        stepping.take(call, now=self.clock(), find=self._find_created)

    def _find_created(self, step: StripeStep) -> Json | None:
        created = customers.created_since(step)
        filters = {"created": created, "customer": step.request["params"]["customer"]}
        for candidate in client.read_all("/v1/invoices", **filters):
            metadata = candidate.get("metadata") or {}
            if metadata.get("farebox_invoice") == step.subject and candidate["status"] != "void":
                return candidate
        return None

    def _add_lines(self, planned: PlannedStep, *, only: frozenset[str] = frozenset()) -> None:
        first = planned.chunk * steps.LINES_PER_CHUNK
        chunk = self.told[first : first + steps.LINES_PER_CHUNK]
        wanted = [line for line in chunk if not only or _line_id(line) in only]

        def missing() -> Json:
            there = {_line_id(line) for line in self._stripe_lines()}
            return {"lines": [line for line in wanted if _line_id(line) not in there]}

        def find_added(_: StripeStep) -> Json | None:
            return None if missing()["lines"] else {"id": self._stripe_invoice()}

        call = self._call(
            StepKind.ADD_LINES,
            f"/v1/invoices/{self._stripe_invoice()}/add_lines",
            {"lines": wanted},
            chunk=planned.chunk,
            renew=bool(only),
        )
        stepping.take(call, now=self.clock(), find=find_added, again=missing)

    def _compare(self) -> dict[str, str]:
        """Our line ids -> Stripe's, where both invoices are equal but for tax that Stripe adds.

        Raises InvoiceDiffers, TaxNotComputed.
        """
        found = client.read(f"/v1/invoices/{self._stripe_invoice()}")
        lines = list(self._stripe_lines())
        theirs = InvoiceImage(
            found["total"] - mirroring.tax_of(found).added,
            found["currency"],
            tuple(LineImage(_line_id(line), line["amount"]) for line in lines),
            (found.get("metadata") or {}).get("farebox_digest"),
        )
        lost = missing_lines(self.ours, theirs=theirs)
        if lost and found["status"] == "draft" and self._may_add_again():
            for chunk in range(len(self.told) // steps.LINES_PER_CHUNK + 1):
                first = chunk * steps.LINES_PER_CHUNK
                ids = {_line_id(line) for line in self.told[first : first + steps.LINES_PER_CHUNK]}
                if again := frozenset(set(lost) & ids):
                    self._add_lines(PlannedStep(StepKind.ADD_LINES, chunk), only=again)
            return self._compare()
        if differences := compare_invoice(self.ours, theirs=theirs):
            words = [f"{d.field}: ours {d.ours}, Stripe's {d.theirs}" for d in differences]
            self._keep_differences("; ".join(words))
            raise InvoiceDiffers("; ".join(words))
        if (status := mirroring.tax_status(found)) not in ("", "complete"):
            # Away with the draft in the next round: a new one is placed anew.
            self._keep_differences(f"tax: {status}")
            raise TaxNotComputed(status)
        return {_line_id(line) or "": line["id"] for line in lines}

    def _keep_differences(self, words: str) -> None:
        """As a step in quarantine: what was compared, and that it must be started over."""
        subject, kind = self.invoice.public_id, StepKind.COMPARE
        last = stepping.latest(subject, kind=kind)
        attempt = last.attempt + 1 if last else 1
        StripeStep.objects.get_or_create(
            subject=subject,
            kind=kind.value,
            attempt=attempt,
            defaults={
                "invoice": self.invoice,
                "key": steps.step_key(subject, step=kind, attempt=attempt),
                "request": {"params": {}, "path": f"/v1/invoices/{self._stripe_invoice()}"},
                "state": StripeStep.State.QUARANTINED,
                "created_at": self.clock(),
                "answered_at": self.clock(),
                "error": words[:1000],
            },
        )

    def _may_add_again(self) -> bool:
        added = StripeStep.objects.filter(
            subject=self.invoice.public_id, kind=StepKind.ADD_LINES.value
        )
        return added.filter(attempt__gt=ADDED_AGAIN).count() == 0

    def _finalize(self) -> Json:
        stripe_invoice = self._stripe_invoice()
        # A top-up is tried once, by a call of ours (charging.py); Stripe must not go on trying.
        params = {"auto_advance": self.invoice.wallet_id is None}
        path = f"/v1/invoices/{stripe_invoice}/finalize"
        call = self._call(StepKind.FINALIZE, path, params)

        def find_finalized(_: StripeStep) -> Json | None:
            found = client.read(f"/v1/invoices/{stripe_invoice}")
            return found if found["status"] != "draft" else None

        try:
            step = stepping.take(call, now=self.clock(), find=find_finalized)
        except stepping.StepQuarantined as refused:
            if LOCATION_REFUSED in refused.step.error.split():
                raise TaxNotComputed(LOCATION_MISSING) from refused  # started over next time
            raise
        return step.answer or {}

    def _stripe_lines(self) -> list[Json]:
        return list(client.read_all(f"/v1/invoices/{self._stripe_invoice()}/lines"))

    def _call(
        self, kind: StepKind, path: str, params: Json, *, chunk: int = 0, renew: bool = False
    ) -> stepping.Call:
        return stepping.Call(
            self.invoice.public_id,
            kind,
            path,
            params,
            invoice_id=self.invoice.pk,
            chunk=chunk,
            renew=renew,
        )


def _status_at(path: str) -> str:
    try:
        return str(client.read(path)["status"])
    except client.StripeRefused as refused:
        if refused.status == 404:
            return "gone"
        raise


def _line_id(line: Json) -> str | None:
    return (line.get("metadata") or {}).get("farebox_line")
