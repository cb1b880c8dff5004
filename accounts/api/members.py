"""Members: the people of a customer who sign in."""

from __future__ import annotations

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.customers import EmailText
from accounts.api.describing import describe
from accounts.api.fields import CustomerField, InstantField, PublicIdField, TextField
from accounts.api.serializing import NoBody, StrictSerializer
from accounts.api.views import ManagementView, number_of
from accounts.models import Member
from accounts.operations import members


class MemberShape(serializers.Serializer[Member]):
    """A member as it is answered."""

    id = PublicIdField(Member.PREFIX, source="pk")
    customer = CustomerField(source="customer_id", allow_null=True)
    email = serializers.CharField()
    name = serializers.CharField()
    role = serializers.CharField()
    active = serializers.BooleanField(source="is_active")
    created_at = InstantField()


class InvitedShape(MemberShape):
    """A new member, with the link to set a password where none was given."""

    password_link = serializers.CharField(allow_null=True)


class NewMember(StrictSerializer):
    """A member to be created; without a password the answer has a link to set one."""

    customer = CustomerField()
    email = EmailText()
    name = TextField(max_length=200, allow_blank=True, required=False)
    role = serializers.ChoiceField(Member.Role.choices, required=False)
    password = TextField(max_length=200, required=False, trim_whitespace=False, write_only=True)


class MemberQuery(StrictSerializer):
    """Which members to list."""

    customer = CustomerField(required=False)
    email = TextField(required=False)


class Members(ManagementView):
    """Members of customers."""

    scopes = {"GET": "customers:read", "POST": "customers:write"}

    @describe("List members", answer=MemberShape, query=MemberQuery, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List members of customers, newest first; the operator's own people are not shown."""
        found = Member.objects.filter(customer__isnull=False, **self.query(MemberQuery))
        return self.page(found, MemberShape)

    @describe("Create a member", body=NewMember, answer=InvitedShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Create a member, with a password or with a link to set one (shown this once)."""
        asked = self.body(NewMember)
        customer = asked.pop("customer")
        member = members.create_member(
            customer_id=customer.id, **asked, actor=self.actor, now=self.now
        )
        link = None if "password" in asked else members.password_link(member)
        return Response({**MemberShape(member).data, "password_link": link}, status=201)


class OneMember(ManagementView):
    """One member of a customer."""

    scopes = {"GET": "customers:read"}

    @describe("See a member", answer=MemberShape)
    def get(self, request: Request, member: str) -> Response:  # noqa: ARG002
        """See a member."""
        self.query()
        return Response(MemberShape(member_of(member)).data)


class DeactivateMember(ManagementView):
    """Shut a member out."""

    scopes = {"POST": "customers:write"}

    @describe("Deactivate a member", body=NoBody, answer=MemberShape)
    def post(self, request: Request, member: str) -> Response:  # noqa: ARG002
        """Shut a member out, open sessions included."""
        self.body(NoBody)
        changed = members.deactivate_member(member_of(member).id, actor=self.actor, now=self.now)
        return Response(MemberShape(changed).data)


class InviteMember(ManagementView):
    """A fresh link to set a password."""

    scopes = {"POST": "customers:write"}

    @describe("Make a new password link", body=NoBody, answer=InvitedShape)
    def post(self, request: Request, member: str) -> Response:  # noqa: ARG002
        """A link by which the member sets a password; it dies when used or after three days."""
        self.body(NoBody)
        found = member_of(member)
        if not found.is_active:
            raise Http404("There is no such active member.")
        members.note_invitation(found.id, actor=self.actor, now=self.now)
        link = members.password_link(found)
        return Response({**MemberShape(found).data, "password_link": link})


def member_of(public_id: str) -> Member:
    """The customer's member of an address; raises Http404, also for the operator's own people."""
    number = number_of(Member.PREFIX, public_id)
    member = Member.objects.filter(pk=number, customer__isnull=False).first()
    if member is None:
        raise Http404("There is no such member.")
    return member
