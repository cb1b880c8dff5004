"""What holds for one customer besides the plan: billing details, spend limits, overrides."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from accounts.models import Customer, Entity
from metering.models import Entitlement, Meter


class BillingDetails(models.Model):
    """Who an invoice is made out to: a legal name, an address, a tax id; none need be given.

    Issued invoices keep the details of their day.
    """

    class TaxExempt(models.TextChoices):
        NONE = "none", "Taxed"
        EXEMPT = "exempt", "Exempt"
        REVERSE = "reverse", "Reverse charge"

    customer = models.OneToOneField(
        Customer, on_delete=models.CASCADE, primary_key=True, related_name="billing_details"
    )
    legal_name = models.CharField(max_length=200, blank=True)
    line1 = models.CharField(max_length=200, blank=True)
    line2 = models.CharField(max_length=200, blank=True)
    city = models.CharField(max_length=100, blank=True)
    state = models.CharField(max_length=100, blank=True)
    postal_code = models.CharField(max_length=20, blank=True)
    country = models.CharField(max_length=2, blank=True)  # ISO 3166-1 alpha-2
    tax_id = models.CharField(max_length=50, blank=True)
    # As Stripe Tax takes it; said by the operator alone.
    tax_exempt = models.CharField(max_length=7, choices=TaxExempt.choices, default=TaxExempt.NONE)
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "billing details"
        constraints = [
            models.CheckConstraint(
                condition=Q(country="") | Q(country__regex=r"^[A-Z]{2}$"),
                name="billingdetails_country_is_iso",
            )
        ]

    def __str__(self) -> str:
        return self.legal_name or f"billing details of {self.customer_id}"


class SpendLimit(models.Model):
    """How much overage may cost in a billing period; the lower of the two counts."""

    class SetBy(models.TextChoices):
        CUSTOMER = "customer", "The customer"
        OPERATOR = "operator", "The operator"

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="+")
    set_by = models.CharField(max_length=8, choices=SetBy.choices)
    amount = models.BigIntegerField()  # minor units of the customer's currency
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "set_by"], name="spendlimit_one_of_each_per_customer"
            ),
            models.CheckConstraint(condition=Q(amount__gte=0), name="spendlimit_is_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} for {self.customer_id}, set by the {self.set_by}"


class Override(Entity):
    """What one customer gets otherwise than its plan says, in [starts_at, ends_at).

    Of a meter: `terms` has the members of a plan's entitlement that are otherwise; or a feature
    that is given (with its `value`, where static). `denied` takes the right away. Terms never
    change and never begin in the past, so that what was billed can be rated again: only `ends_at`
    is set, to a time that is not over. `due_at`: when the entitlements must be written anew.
    """

    PREFIX: ClassVar[str] = "ovr"
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=8, choices=Entitlement.Kind.choices)
    meter = models.ForeignKey(
        Meter, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    feature = models.CharField(max_length=100, blank=True)
    denied = models.BooleanField(default=False)
    terms = models.JSONField(default=dict, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="metered", meter__isnull=False, feature="")
                | (~Q(kind="metered") & Q(meter__isnull=True) & ~Q(feature="")),
                name="override_names_a_meter_or_a_feature",
            ),
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(ends_at__gte=F("starts_at")),
                name="override_ends_after_it_starts",
            ),
        ]
        indexes = [
            models.Index(fields=["customer", "starts_at"], name="override_of_customer"),
            models.Index(
                fields=["due_at"], condition=Q(due_at__isnull=False), name="override_due_at"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.meter or self.feature} for {self.customer_id}"
