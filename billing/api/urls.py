"""Addresses of billing under /api/v1/."""

from __future__ import annotations

from django.urls import path

from billing.api import (
    checkout_sessions,
    event_fates,
    invoices,
    money_moves,
    plans,
    reports,
    states,
    subscriptions,
)
from billing.api.stripe_webhook import StripeWebhook

urlpatterns = [
    path("plans", plans.Plans.as_view()),
    path("plans/<str:plan>", plans.OnePlan.as_view()),
    path("plans/<str:plan>/archive", plans.ArchivePlan.as_view()),
    path("plans/<str:plan>/versions", plans.PlanVersions.as_view()),
    path("plans/<str:plan>/versions/<str:version>", plans.OnePlanVersion.as_view()),
    path("plans/<str:plan>/versions/<str:version>/activate", plans.ActivateVersion.as_view()),
    path("subscriptions", subscriptions.Subscriptions.as_view()),
    path("subscriptions/<str:subscription>", subscriptions.OneSubscription.as_view()),
    path("subscriptions/<str:subscription>/change", subscriptions.ChangePlan.as_view()),
    path("subscriptions/<str:subscription>/change/preview", subscriptions.PreviewChange.as_view()),
    path("subscriptions/<str:subscription>/pause", subscriptions.PauseSubscription.as_view()),
    path("subscriptions/<str:subscription>/resume", subscriptions.ResumeSubscription.as_view()),
    path("subscriptions/<str:subscription>/cancel", subscriptions.CancelSubscription.as_view()),
    path("subscriptions/<str:subscription>/keep", subscriptions.KeepSubscription.as_view()),
    path("invoices", invoices.Invoices.as_view()),
    path("invoices/<str:invoice>", invoices.OneInvoice.as_view()),
    path("invoices/<str:invoice>/void", invoices.VoidInvoice.as_view()),
    path("invoices/<str:invoice>/mark-uncollectible", invoices.MarkUncollectible.as_view()),
    path("invoices/<str:invoice>/mark-paid", invoices.MarkPaid.as_view()),
    path("invoices/<str:invoice>/credit-notes", invoices.CreditNotes.as_view()),
    path("wallets", money_moves.Wallets.as_view()),
    path("wallets/top-up", money_moves.TopUpWallet.as_view()),
    path("wallets/<str:wallet>", money_moves.OneWallet.as_view()),
    path("ledger-postings", money_moves.LedgerPostings.as_view()),
    path("checkout-sessions", checkout_sessions.CheckoutSessions.as_view()),
    path("checkout-sessions/<str:session>", checkout_sessions.OneCheckoutSession.as_view()),
    path("customers/<str:reference>/invoice-preview", invoices.InvoicePreviewOfCustomer.as_view()),
    path("customers/<str:reference>/state", states.CustomerState.as_view()),
    path("me/state", states.MyState.as_view()),
    path("events/<str:event>/fate", event_fates.EventWholeFate.as_view()),
    path("reports/usage.csv", reports.UsageReport.as_view()),
    path("reports/invoice-lines.csv", reports.InvoiceLineReport.as_view()),
    path("stripe/webhook", StripeWebhook.as_view(), name="stripe-webhook"),
]
