"""The tables of billing."""

from billing.models.catalogue import Plan, PlanEntitlement, PlanVersion
from billing.models.coupons import Coupon, CouponRedemption
from billing.models.customer_terms import BillingDetails, Override, SpendLimit
from billing.models.invoices import (
    BilledUsage,
    CreditNote,
    Invoice,
    InvoiceCounter,
    InvoiceLine,
    PaymentAttempt,
)
from billing.models.ledger import AutoTopUp, Credit, CreditUse, LedgerEntry, LedgerPosting, Wallet
from billing.models.plan_migrations import MigratedSubscription, PlanMigration
from billing.models.price_simulations import PriceSimulation, SimulatedRevenue
from billing.models.stripe import (
    CheckoutSession,
    Dispute,
    Reconciliation,
    StripeCustomer,
    StripeEvent,
    StripeStep,
)
from billing.models.subscriptions import Subscription, SubscriptionPhase

__all__ = [
    "AutoTopUp",
    "BilledUsage",
    "BillingDetails",
    "CheckoutSession",
    "Coupon",
    "CouponRedemption",
    "Credit",
    "CreditNote",
    "CreditUse",
    "Dispute",
    "Invoice",
    "InvoiceCounter",
    "InvoiceLine",
    "LedgerEntry",
    "LedgerPosting",
    "MigratedSubscription",
    "Override",
    "PaymentAttempt",
    "Plan",
    "PlanEntitlement",
    "PlanMigration",
    "PlanVersion",
    "PriceSimulation",
    "Reconciliation",
    "SimulatedRevenue",
    "SpendLimit",
    "StripeCustomer",
    "StripeEvent",
    "StripeStep",
    "Subscription",
    "SubscriptionPhase",
    "Wallet",
]
