"""Plans and their versions: create, list, see, draft, activate, archive."""

from __future__ import annotations

from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.serializing import NoBody
from accounts.api.views import ManagementView, number_of
from billing.api.plan_shapes import (
    NewPlan,
    NewVersion,
    PlanShape,
    PlanVersionShape,
    terms_in,
)
from billing.models import Plan, PlanVersion
from billing.operations import catalogue
from billing.queries.catalogue import PlanUnknown, plan_by_reference


class Plans(ManagementView):
    """All plans."""

    scopes = {"GET": "plans:read", "POST": "plans:write"}

    @describe("List plans", answer=PlanShape, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List plans, newest first."""
        self.query()
        return self.page(Plan.objects.all(), PlanShape)

    @describe("Create a plan", body=NewPlan, answer=PlanShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Create a plan with its first version, on sale at once with `activate`."""
        asked = self.body(NewPlan)
        terms = terms_in(asked)
        version = catalogue.create_plan(**asked, terms=terms, actor=self.actor, now=self.now)
        return Response(PlanShape(version.plan).data, status=201)


class OnePlan(ManagementView):
    """One plan, by key or `plan_…`."""

    scopes = {"GET": "plans:read"}

    @describe("See a plan", answer=PlanShape)
    def get(self, request: Request, plan: str) -> Response:  # noqa: ARG002
        """See a plan with the version that is on sale."""
        self.query()
        return Response(PlanShape(plan_of(plan)).data)


class PlanVersions(ManagementView):
    """The versions of one plan."""

    scopes = {"GET": "plans:read", "POST": "plans:write"}

    @describe("List a plan's versions", answer=PlanVersionShape, page=True)
    def get(self, request: Request, plan: str) -> Response:  # noqa: ARG002
        """List the versions of a plan, newest first."""
        self.query()
        return self.page(
            plan_of(plan).versions.filter(base=None).select_related("plan"), PlanVersionShape
        )

    @describe("Draft a version of a plan", body=NewVersion, answer=PlanVersionShape, status=201)
    def post(self, request: Request, plan: str) -> Response:  # noqa: ARG002
        """Draft a version; who is on an earlier one stays there."""
        asked = self.body(NewVersion)
        terms = terms_in(asked)
        version = catalogue.new_version(
            plan_of(plan).id, **asked, terms=terms, actor=self.actor, now=self.now
        )
        return Response(PlanVersionShape(version).data, status=201)


class OnePlanVersion(ManagementView):
    """One version of a plan."""

    scopes = {"GET": "plans:read"}

    @describe("See a version", answer=PlanVersionShape)
    def get(self, request: Request, plan: str, version: str) -> Response:  # noqa: ARG002
        """See a version with its entitlements."""
        self.query()
        return Response(PlanVersionShape(_version_of(plan, version)).data)


class ActivateVersion(ManagementView):
    """Put a version on sale."""

    scopes = {"POST": "plans:write"}

    @describe("Activate a version", body=NoBody, answer=PlanVersionShape)
    def post(self, request: Request, plan: str, version: str) -> Response:  # noqa: ARG002
        """Put a draft on sale in place of the version that was; from now on it never changes."""
        self.body(NoBody)
        found = catalogue.activate(_version_of(plan, version).id, actor=self.actor, now=self.now)
        return Response(PlanVersionShape(found).data)


class ArchivePlan(ManagementView):
    """Take a plan off sale."""

    scopes = {"POST": "plans:write"}

    @describe("Archive a plan", body=NoBody, answer=PlanShape)
    def post(self, request: Request, plan: str) -> Response:  # noqa: ARG002
        """Take a plan off sale; who is on it stays. Twice changes nothing."""
        self.body(NoBody)
        found = catalogue.archive_plan(plan_of(plan).id, actor=self.actor, now=self.now)
        return Response(PlanShape(found).data)


def plan_of(reference: str) -> Plan:
    """The plan of an address; raises Http404."""
    try:
        return plan_by_reference(reference)
    except PlanUnknown as error:
        raise Http404("There is no such plan.") from error


def _version_of(plan: str, version: str) -> PlanVersion:
    number = number_of(PlanVersion.PREFIX, version)
    found = PlanVersion.objects.filter(pk=number, plan=plan_of(plan), base=None).first()
    if found is None:
        raise Http404("There is no such version of this plan.")
    return found
