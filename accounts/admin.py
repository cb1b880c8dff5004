"""The admin of accounts: every change goes through the operations, which audit it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from accounts.domain.keys import NewKey
from accounts.domain.routes import Route, RouteMalformed
from accounts.domain.scopes import SCOPES, ScopeUnknown
from accounts.models import (
    ApiKey,
    AuditEntry,
    Credential,
    Customer,
    Gateway,
    GatewayKey,
    GatewayRoute,
    Member,
    OperatorKey,
)
from accounts.operations import customers, erasing, gateways, keys, members

if TYPE_CHECKING:  # generic for the type checker only
    AnyAdmin = admin.ModelAdmin[Any]
    KeyForm = forms.ModelForm[OperatorKey]
    RouteTable = admin.TabularInline[GatewayRoute, Gateway]
else:
    AnyAdmin, KeyForm, RouteTable = admin.ModelAdmin, forms.ModelForm, admin.TabularInline

admin.site.site_header = "Farebox"
admin.site.site_title = "Farebox"
admin.site.index_title = "Operator"
_REFUSALS = (
    erasing.CustomerErased,
    customers.ExternalIdReserved,
    customers.ExternalIdTaken,
    gateways.GatewayNameTaken,
    keys.ExpiryPassed,
    members.EmailTaken,
    members.StaffOfNobody,
    RouteMalformed,
    ScopeUnknown,
)


def actor_of(request: HttpRequest) -> str:
    """The signed-in person's id, as the audit keeps it."""
    assert isinstance(request.user, Member)
    return request.user.public_id


class OperatedAdmin(AnyAdmin):
    """Writes by operations only: `create` and `change` say how. Nothing is ever deleted here."""

    list_per_page = 50
    save_on_top = False

    def create(self, request: HttpRequest, asked: Any, form: Any) -> Model:
        """Do the operation that makes the thing and return the row."""
        raise NotImplementedError

    def change(self, request: HttpRequest, asked: Any, form: Any) -> None:
        """Do the operation that changes the thing."""
        raise NotImplementedError

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001
        """Hand what the form says to the operation."""
        if change:
            self.change(request, obj, form)
            return
        made = self.create(request, obj, form)
        obj.pk, obj._state.adding = made.pk, False  # noqa: SLF001  (the admin shows this object)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Say what an operation refused instead of failing."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except _REFUSALS as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(request.path)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Never: what was billed must stay explicable."""
        return False

    def each(self, request: HttpRequest, rows: QuerySet[Any], do: Callable[..., Any]) -> None:
        """Do one operation for each row chosen in the list, and say for which it was refused."""
        done = 0
        for row in rows:
            try:
                do(row.pk, actor=actor_of(request), now=datetime.now(UTC))
                done += 1
            except _REFUSALS as error:
                self.message_user(request, f"Not for {row.public_id}: {error}", messages.ERROR)
        self.message_user(request, f"Done for {done}.")

    def show_once(self, request: HttpRequest, text: str) -> None:
        """Show a new key; it is not kept and cannot be shown again."""
        self.message_user(request, f"Copy it now, it is shown this once: {text}", messages.WARNING)


class ReadOnlyAdmin(AnyAdmin):
    """Shows rows and changes none."""

    list_per_page = 50

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Never."""
        return False


@admin.register(Customer)
class CustomerAdmin(OperatedAdmin):
    """Customers."""

    list_display = ("name", "public_id", "external_id", "email", "currency", "suspended_at")
    list_filter = ("currency", ("suspended_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "external_id", "email")
    fields = ("name", "external_id", "email", "currency", "metadata", "created_at", "suspended_at")
    readonly_fields = ("created_at", "suspended_at")
    actions = ("suspend", "resume")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:  # noqa: ARG002
        """The currency stays once something may have been sold in it."""
        return (*self.readonly_fields, "currency") if obj else tuple(self.readonly_fields)

    def create(self, request: HttpRequest, asked: Any, form: Any) -> Model:  # noqa: ARG002
        """Create a customer."""
        return customers.create_customer(
            name=asked.name,
            email=asked.email,
            external_id=asked.external_id,
            currency=asked.currency,
            metadata=asked.metadata,
            actor=actor_of(request),
            now=datetime.now(UTC),
        )

    def change(self, request: HttpRequest, asked: Any, form: Any) -> None:
        """Change a customer."""
        changes: Any = {field: getattr(asked, field) for field in form.changed_data}
        customers.change_customer(
            asked.pk, changes=changes, actor=actor_of(request), now=datetime.now(UTC)
        )

    @admin.action(description="Suspend")
    def suspend(self, request: HttpRequest, rows: QuerySet[Customer]) -> None:
        """Deny every check from the next call on."""
        self.each(request, rows, customers.suspend_customer)

    @admin.action(description="Resume")
    def resume(self, request: HttpRequest, rows: QuerySet[Customer]) -> None:
        """Undo a suspension."""
        self.each(request, rows, customers.resume_customer)


@admin.register(Member)
class MemberAdmin(OperatedAdmin):
    """People who sign in."""

    list_display = ("email", "name", "customer", "role", "is_staff", "is_active", "last_login")
    list_filter = ("is_staff", "is_active", "role")
    list_select_related = ("customer",)
    search_fields = ("email", "name")
    fields = ("email", "name", "customer", "role", "is_staff", "is_active", "last_login")
    readonly_fields = ("last_login",)
    autocomplete_fields = ("customer",)
    actions = ("make_link",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:  # noqa: ARG002
        """A member does not move to another customer."""
        return ("last_login", "customer") if obj else ("last_login", "is_active")

    def create(self, request: HttpRequest, asked: Any, form: Any) -> Model:  # noqa: ARG002
        """Create a member and show the link that sets the password."""
        member = members.create_member(
            email=asked.email,
            name=asked.name,
            customer_id=asked.customer_id,
            role=asked.role,
            is_staff=asked.is_staff,
            actor=actor_of(request),
            now=datetime.now(UTC),
        )
        self.show_once(request, members.password_link(member))
        return member

    def change(self, request: HttpRequest, asked: Any, form: Any) -> None:
        """Change a member."""
        changes: Any = {field: getattr(asked, field) for field in form.changed_data}
        members.change_member(
            asked.pk, changes=changes, actor=actor_of(request), now=datetime.now(UTC)
        )

    @admin.action(description="Make a password link")
    def make_link(self, request: HttpRequest, rows: QuerySet[Member]) -> None:
        """Show links that set a new password."""
        for member in rows.filter(is_active=True):
            members.note_invitation(member.pk, actor=actor_of(request), now=datetime.now(UTC))
            self.show_once(request, f"{member.email} {members.password_link(member)}")


class CredentialAdmin(OperatedAdmin):
    """Keys: issued with the key shown once, then only revoked."""

    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    search_fields = ("name", "prefix")
    actions = ("revoke",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A key does not change; the list is needed for revoking."""
        return obj is None and super().has_change_permission(request)

    def note(self, request: HttpRequest, made: tuple[Credential, NewKey]) -> Credential:
        """Show the key once."""
        self.show_once(request, made[1].text)
        return made[0]


@admin.register(ApiKey)
class ApiKeyAdmin(CredentialAdmin):
    """API keys of customers."""

    list_display = ("name", "prefix", "customer", "created_at", "expires_at", "revoked_at")
    list_select_related = ("customer",)
    fields = ("customer", "name", "expires_at")
    autocomplete_fields = ("customer",)

    def create(self, request: HttpRequest, asked: Any, form: Any) -> Model:  # noqa: ARG002
        """Issue a key."""
        made = keys.issue_api_key(
            asked.customer_id,
            name=asked.name,
            expires_at=asked.expires_at,
            actor=actor_of(request),
            now=datetime.now(UTC),
        )
        return self.note(request, made)

    @admin.action(description="Revoke at once")
    def revoke(self, request: HttpRequest, rows: QuerySet[ApiKey]) -> None:
        """Refuse the keys from the next call on."""
        self.each(request, rows, keys.revoke_api_key)


@admin.register(GatewayKey)
class GatewayKeyAdmin(CredentialAdmin):
    """Keys of gateways."""

    list_display = ("name", "prefix", "gateway", "created_at", "expires_at", "revoked_at")
    list_select_related = ("gateway",)
    fields = ("gateway", "name", "expires_at")

    def create(self, request: HttpRequest, asked: Any, form: Any) -> Model:  # noqa: ARG002
        """Issue a further key."""
        made = keys.issue_gateway_key(
            asked.gateway_id,
            name=asked.name,
            expires_at=asked.expires_at,
            actor=actor_of(request),
            now=datetime.now(UTC),
        )
        return self.note(request, made)

    @admin.action(description="Revoke at once")
    def revoke(self, request: HttpRequest, rows: QuerySet[GatewayKey]) -> None:
        """Refuse the keys from the next call on."""
        self.each(request, rows, keys.revoke_gateway_key)


class OperatorKeyForm(KeyForm):
    """Scopes as boxes to tick."""

    scopes = forms.MultipleChoiceField(
        choices=[(name, f"{name}: {about}") for name, about in SCOPES.items()],
        widget=forms.CheckboxSelectMultiple,
    )


@admin.register(OperatorKey)
class OperatorKeyAdmin(CredentialAdmin):
    """Keys for management."""

    list_display = ("name", "prefix", "scopes", "created_at", "expires_at", "revoked_at")
    fields = ("name", "scopes", "expires_at")
    form = OperatorKeyForm

    def create(self, request: HttpRequest, asked: Any, form: Any) -> Model:  # noqa: ARG002
        """Issue a key."""
        made = keys.issue_operator_key(
            name=asked.name,
            scopes=asked.scopes,
            expires_at=asked.expires_at,
            actor=actor_of(request),
            now=datetime.now(UTC),
        )
        return self.note(request, made)

    @admin.action(description="Revoke at once")
    def revoke(self, request: HttpRequest, rows: QuerySet[OperatorKey]) -> None:
        """Refuse the keys from the next call on."""
        self.each(request, rows, keys.revoke_operator_key)


class RoutesInline(RouteTable):
    """The routes of a gateway, in the order in which they are tried."""

    model = GatewayRoute
    extra = 0
    ordering = ("position",)


@admin.register(Gateway)
class GatewayAdmin(OperatedAdmin):
    """Gateways."""

    list_display = ("name", "public_id", "kind", "created_at", "disabled_at")
    search_fields = ("name",)
    fields = ("name", "kind", "created_at", "disabled_at")
    inlines = (RoutesInline,)
    actions = ("disable",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:  # noqa: ARG002
        """The name is the source of events that were counted: it stays."""
        fixed = ("created_at", "disabled_at")
        return (*fixed, "name", "kind") if obj else fixed

    def create(self, request: HttpRequest, asked: Any, form: Any) -> Model:  # noqa: ARG002
        """Create a gateway and show its key."""
        gateway, made = gateways.create_gateway(
            name=asked.name, kind=asked.kind, actor=actor_of(request), now=datetime.now(UTC)
        )
        self.show_once(request, made.text)
        return gateway

    def change(self, request: HttpRequest, asked: Any, form: Any) -> None:
        """Nothing but the routes changes, and those are saved with their form."""

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:  # noqa: ARG002, FBT001
        """Replace the routes as a whole."""
        formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []
        rows = [row for row in formset.cleaned_data if row and not row.get("DELETE")]
        rows.sort(key=lambda row: row["position"])
        names = ("path", "meter", "method", "quantity", "mode")
        gateways.change_routes(
            form.instance.pk,
            routes=[Route(**{name: row[name] for name in names}) for row in rows],
            actor=actor_of(request),
            now=datetime.now(UTC),
        )

    @admin.action(description="Disable: refuse all its keys")
    def disable(self, request: HttpRequest, rows: QuerySet[Gateway]) -> None:
        """Refuse all keys of the gateways."""
        self.each(request, rows, gateways.disable_gateway)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    """Who changed what."""

    list_display = ("at", "actor", "action", "subject", "customer", "changes")
    list_filter = ("action",)
    list_select_related = ("customer",)
    search_fields = ("actor", "subject", "request_id")
    date_hierarchy = "at"
    ordering = ("-at",)
