"""Signing in and out, and passwords."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import views
from django.contrib.auth.forms import (
    AuthenticationForm,
    PasswordChangeForm,
    PasswordResetForm,
    SetPasswordForm,
)
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse_lazy

from accounts.models import Member
from accounts.operations.members import set_password


class SignInForm(AuthenticationForm):
    """E-mail address, in any case, and password."""

    username = forms.EmailField(
        label="E-mail address",
        max_length=254,
        widget=forms.EmailInput(attrs={"autofocus": True, "autocomplete": "username"}),
    )
    error_messages = {
        "invalid_login": "There is no member with this e-mail address and password.",
        "inactive": "This member has been shut out.",
    }

    def clean_username(self) -> str:
        """Addresses are kept in lower case."""
        return str(self.cleaned_data["username"]).lower()


class _Audited:
    """A form that sets a member's password through the operation, which audits it."""

    user: Member
    cleaned_data: dict[str, Any]

    def save(self, commit: bool = True) -> Member:  # noqa: ARG002, FBT001, FBT002
        """Set the password."""
        self.user = set_password(
            self.user.pk,
            password=self.cleaned_data["new_password1"],
            actor=self.user.public_id,
            now=datetime.now(UTC),
        )
        return self.user


class NewPasswordForm(_Audited, SetPasswordForm):  # type: ignore[type-arg]
    """A new password, twice."""


class ChangePasswordForm(_Audited, PasswordChangeForm):
    """The old password, and a new one twice."""


class SignIn(views.LoginView):
    """The sign-in page."""

    template_name = "accounts/sign_in.html"
    form_class = SignInForm
    redirect_authenticated_user = False

    def get_default_redirect_url(self) -> str:
        """Where this member begins."""
        return start_of(self.request)


class ChangePassword(views.PasswordChangeView):
    """A signed-in member changes the password."""

    template_name = "accounts/change_password.html"
    form_class = ChangePasswordForm
    success_url = reverse_lazy("landing")
    extra_context = {"heading": "Change your password"}

    def form_valid(self, form: Any) -> HttpResponse:
        """Save and say so."""
        messages.success(self.request, "The password is changed.")
        return super().form_valid(form)


class SetPassword(views.PasswordResetConfirmView):
    """An invited or forgetful member sets a password by a signed link."""

    template_name = "accounts/change_password.html"
    form_class = NewPasswordForm
    success_url = reverse_lazy("sign-in")
    reset_url_token = "now"  # noqa: S105  (what stands in the address instead of the secret)
    extra_context = {"heading": "Set your password"}

    def form_valid(self, form: Any) -> HttpResponse:
        """Save and say so."""
        messages.success(self.request, "The password is set. Sign in with it.")
        return super().form_valid(form)


class MailedLinkForm(PasswordResetForm):
    """Asks for the address; invited members, who have no password yet, may use it too."""

    def get_users(self, email: str) -> list[Member]:
        """The active member with this address, if any."""
        return list(Member.objects.filter(email=email.strip().lower(), is_active=True))


class ForgotPassword(views.PasswordResetView):
    """Mails a link; says the same whether or not the address is known."""

    template_name = "accounts/forgot_password.html"
    email_template_name = "accounts/password_mail.txt"
    subject_template_name = "accounts/password_mail_subject.txt"
    form_class = MailedLinkForm
    success_url = reverse_lazy("sign-in")

    def form_valid(self, form: Any) -> HttpResponse:
        """Send and say so."""
        self.extra_email_context = {"base_url": settings.BASE_URL}
        messages.success(self.request, "If the address is known here, a link is on its way.")
        return super().form_valid(form)


def landing(request: HttpRequest) -> HttpResponseRedirect:
    """Everybody comes in here and is led to where they begin."""
    return redirect(start_of(request) if request.user.is_authenticated else "sign-in")


def start_of(request: HttpRequest) -> str:
    """Where a signed-in member begins: the operator's people in the admin, others in the portal."""
    staff = request.user.is_authenticated and request.user.is_staff
    return "/admin/" if staff else settings.LOGIN_REDIRECT_URL


def locked_out(
    request: HttpRequest, _response: HttpResponse | None, _credentials: Any
) -> HttpResponse:
    """The page after too many failed sign-ins."""
    seconds = int(settings.AXES_COOLOFF_TIME * 3_600)
    page = render(
        request, "accounts/locked_out.html", {"minutes": max(seconds // 60, 1)}, status=429
    )
    page["Retry-After"] = str(seconds)
    return page
