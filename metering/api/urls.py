"""Addresses of metering under /api/v1/; check, authorize, holds and POST /events are the gate's."""

from __future__ import annotations

from django.urls import path

from metering.api import decisions, events, grants, meters, usage

urlpatterns = [
    path("meters", meters.Meters.as_view()),
    path("meters/<str:reference>", meters.OneMeter.as_view()),
    path("meters/<str:reference>/archive", meters.ArchiveMeter.as_view()),
    path("grants", grants.Grants.as_view()),
    path("grants/<str:grant>/void", grants.VoidGrant.as_view()),
    path("usage", usage.Usage.as_view()),
    path("me/usage", usage.MyUsage.as_view()),
    path("customers/<str:reference>/entitlements", usage.CustomerEntitlements.as_view()),
    path("me/entitlements", usage.MyEntitlements.as_view()),
    path("events", events.Events.as_view()),
    path("events/<str:event>", events.OneEvent.as_view()),
    path("decisions", decisions.Decisions.as_view()),
    path("decisions/<str:decision>", decisions.OneDecision.as_view()),
]
