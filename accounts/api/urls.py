"""Addresses of accounts under /api/v1/."""

from __future__ import annotations

from django.urls import path

from accounts.api import api_keys, audit, customers, gateways, members, operator_keys

urlpatterns = [
    path("customers", customers.Customers.as_view()),
    path("customers/<str:reference>", customers.OneCustomer.as_view()),
    path("customers/<str:reference>/suspend", customers.SuspendCustomer.as_view()),
    path("customers/<str:reference>/resume", customers.ResumeCustomer.as_view()),
    path("members", members.Members.as_view()),
    path("members/<str:member>", members.OneMember.as_view()),
    path("members/<str:member>/deactivate", members.DeactivateMember.as_view()),
    path("members/<str:member>/invite", members.InviteMember.as_view()),
    path("api-keys", api_keys.ApiKeys.as_view()),
    path("api-keys/<str:key>", api_keys.OneApiKey.as_view()),
    path("api-keys/<str:key>/rotate", api_keys.RotateApiKey.as_view()),
    path("api-keys/<str:key>/revoke", api_keys.RevokeApiKey.as_view()),
    path("gateways", gateways.Gateways.as_view()),
    path("gateways/<str:gateway>", gateways.OneGateway.as_view()),
    path("gateways/<str:gateway>/routes", gateways.GatewayRoutes.as_view()),
    path("gateways/<str:gateway>/disable", gateways.DisableGateway.as_view()),
    path("gateways/<str:gateway>/keys", gateways.GatewayKeys.as_view()),
    path("gateways/<str:gateway>/keys/<str:key>/rotate", gateways.RotateGatewayKey.as_view()),
    path("gateways/<str:gateway>/keys/<str:key>/revoke", gateways.RevokeGatewayKey.as_view()),
    path("operator-keys", operator_keys.OperatorKeys.as_view()),
    path("operator-keys/<str:key>", operator_keys.OneOperatorKey.as_view()),
    path("operator-keys/<str:key>/rotate", operator_keys.RotateOperatorKey.as_view()),
    path("operator-keys/<str:key>/revoke", operator_keys.RevokeOperatorKey.as_view()),
    path("audit-entries", audit.AuditEntries.as_view()),
    path("me", api_keys.Me.as_view()),
    path("me/api-keys", api_keys.MyApiKeys.as_view()),
    path("me/api-keys/<str:key>", api_keys.MyApiKey.as_view()),
]
