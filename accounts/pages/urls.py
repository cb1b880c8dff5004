"""Pages of accounts."""

from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.urls import path

from accounts.pages import sign_in

urlpatterns = [
    path("", sign_in.landing, name="landing"),
    path("sign-in", sign_in.SignIn.as_view(), name="sign-in"),
    path("sign-out", LogoutView.as_view(), name="sign-out"),
    path("change-password", sign_in.ChangePassword.as_view(), name="change-password"),
    path("forgot-password", sign_in.ForgotPassword.as_view(), name="forgot-password"),
    path("set-password/<uidb64>/<token>", sign_in.SetPassword.as_view(), name="set-password"),
]
