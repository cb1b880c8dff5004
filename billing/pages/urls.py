"""Pages of billing: the customer's portal."""

from __future__ import annotations

from django.urls import path

from billing.pages import (
    billing_details,
    checkout,
    coupons,
    events,
    invoice_documents,
    overview,
    plans,
    refused_events,
    spend_limit,
    wallet,
)

urlpatterns = [
    path("portal", overview.Overview.as_view(), name="portal"),
    path("portal/plans", plans.Plans.as_view(), name="portal-plans"),
    path("portal/plans/<str:key>", plans.OnePlan.as_view(), name="portal-plan"),
    path("portal/payment-method", checkout.PaymentMethod.as_view(), name="portal-payment-method"),
    path("portal/spend-limit", spend_limit.SpendLimit.as_view(), name="portal-spend-limit"),
    path("portal/wallet", wallet.Wallet.as_view(), name="portal-wallet"),
    path("portal/coupons", coupons.Coupons.as_view(), name="portal-coupons"),
    path("portal/checkout/done", checkout.CheckoutDone.as_view(), name="portal-checkout-done"),
    path("portal/events", events.Events.as_view(), name="portal-events"),
    path("portal/events/file", events.EventsFile.as_view(), name="portal-events-file"),
    path(
        "portal/events/refused",
        refused_events.RefusedEvents.as_view(),
        name="portal-refused-events",
    ),
    path("portal/events/<str:event>", events.OneEvent.as_view(), name="portal-event"),
    path("admin/usage-events/", events.operator_events, name="operator-events"),
    path("admin/usage-events/<str:event>/", events.operator_event, name="operator-event"),
    path("portal/invoices/<str:invoice>", overview.OneInvoice.as_view(), name="portal-invoice"),
    path(
        "portal/invoices/<str:invoice>/page",
        invoice_documents.InvoicePage.as_view(),
        name="portal-invoice-page",
    ),
    path(
        "portal/invoices/<str:invoice>/pdf",
        invoice_documents.InvoicePdf.as_view(),
        name="portal-invoice-pdf",
    ),
    path(
        "admin/invoices/<str:invoice>/page",
        invoice_documents.operator_invoice,
        name="operator-invoice",
    ),
    path(
        "admin/invoices/<str:invoice>/pdf",
        invoice_documents.operator_invoice_pdf,
        name="operator-invoice-pdf",
    ),
    path(
        "portal/billing-details",
        billing_details.BillingDetails.as_view(),
        name="portal-billing-details",
    ),
]
