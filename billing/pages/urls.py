"""Pages of billing: the customer's portal."""

from __future__ import annotations

from django.urls import path

from billing.pages import checkout, overview, plans

urlpatterns = [
    path("portal", overview.Overview.as_view(), name="portal"),
    path("portal/plans", plans.Plans.as_view(), name="portal-plans"),
    path("portal/plans/<str:key>", plans.OnePlan.as_view(), name="portal-plan"),
    path("portal/payment-method", checkout.PaymentMethod.as_view(), name="portal-payment-method"),
    path("portal/checkout/done", checkout.CheckoutDone.as_view(), name="portal-checkout-done"),
    path("portal/invoices/<str:invoice>", overview.OneInvoice.as_view(), name="portal-invoice"),
]
