"""Addresses of metering under /api/v1/; check, authorize, holds and POST /events are the gate's."""

from __future__ import annotations

from django.urls import path

from metering.api import (
    backfills,
    corrections,
    decisions,
    event_exports,
    events,
    grants,
    meters,
    price_tables,
    quarantine,
    usage,
)

urlpatterns = [
    path("meters", meters.Meters.as_view()),
    path("meters/<str:reference>", meters.OneMeter.as_view()),
    path("meters/<str:reference>/archive", meters.ArchiveMeter.as_view()),
    path("meters/<str:reference>/versions", meters.MeterVersions.as_view()),
    path("price-tables", price_tables.PriceTables.as_view()),
    path("price-tables/<str:key>", price_tables.OnePriceTable.as_view()),
    path("price-tables/<str:key>/versions", price_tables.Versions.as_view()),
    path(
        "price-tables/<str:key>/versions/<str:number>/prices",
        price_tables.VersionPrices.as_view(),
    ),
    path("price-tables/<str:key>/versions/<str:number>/diff", price_tables.VersionDiff.as_view()),
    path(
        "price-tables/<str:key>/versions/<str:number>/activate",
        price_tables.ActivateVersion.as_view(),
    ),
    path("grants", grants.Grants.as_view()),
    path("grants/<str:grant>/void", grants.VoidGrant.as_view()),
    path("usage", usage.Usage.as_view()),
    path("me/usage", usage.MyUsage.as_view()),
    path("customers/<str:reference>/entitlements", usage.CustomerEntitlements.as_view()),
    path("me/entitlements", usage.MyEntitlements.as_view()),
    path("events", events.Events.as_view()),
    path("events/export", event_exports.ExportEvents.as_view()),
    path("me/events/export", event_exports.MyEventExport.as_view()),
    path("events/<str:event>/amend", corrections.AmendEvent.as_view()),
    path("events/<str:event>/void", corrections.VoidEvent.as_view()),
    path("backfills", backfills.Backfills.as_view()),
    path("backfills/<str:backfill>", backfills.OneBackfill.as_view()),
    path("backfills/<str:backfill>/events", backfills.BackfillEvents.as_view()),
    path("backfills/<str:backfill>/close", backfills.CloseBackfill.as_view()),
    path("backfills/<str:backfill>/revert", backfills.RevertBackfill.as_view()),
    path("quarantine", quarantine.Quarantine.as_view()),
    path("me/quarantine", quarantine.MyQuarantine.as_view()),
    path("quarantine/redrive", quarantine.Redrive.as_view()),
    path("quarantine/discard", quarantine.Discard.as_view()),
    path("decisions", decisions.Decisions.as_view()),
    path("decisions/<str:decision>", decisions.OneDecision.as_view()),
]
