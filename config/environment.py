"""Every setting that the environment can give, declared once: name, type, default, what it does.

`python manage.py configuration` lists them and docs/configuration.md is generated from them, so a
variable that is not declared here does not exist. Values are read when `config.settings` loads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class SettingInvalid(Exception):
    """A variable holds a value that does not fit; the sentence names it and says what would."""


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One variable: how it is called, read, and explained."""

    name: str
    default: T
    parse: Callable[[str], T]
    expects: str
    help: str
    secret: bool = False

    def read(self, environment: Mapping[str, str] | None = None) -> T:
        """Return the variable's value, or its default where it is unset or empty.

        Raises SettingInvalid, naming the variable, where the text does not parse.
        """
        text = (os.environ if environment is None else environment).get(self.name, "").strip()
        if not text:
            return self.default
        try:
            return self.parse(text)
        except ValueError as error:
            shown = "(hidden)" if self.secret else repr(text)
            raise SettingInvalid(f"{self.name} is {shown}; it must be {self.expects}.") from error


SETTINGS: dict[str, Setting[object]] = {}


def _declare(setting: Setting[T]) -> Setting[T]:
    SETTINGS[setting.name] = setting  # type: ignore[assignment]
    return setting


def _boolean(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True}
    known |= {"0": False, "false": False, "no": False, "off": False}
    try:
        return known[text.lower()]
    except KeyError as error:
        raise ValueError(text) from error


def _text(name: str, default: str, help_: str, *, secret: bool = False) -> Setting[str]:
    return _declare(Setting(name, default, str, "text", help_, secret))


def _whole(
    name: str, default: int, help_: str, *, least: int = 0, most: int | None = None
) -> Setting[int]:
    def parse(text: str) -> int:
        number = int(text)
        if number < least or (most is not None and number > most):
            raise ValueError(text)
        return number

    bounds = f"{least} or more" if most is None else f"from {least} to {most:,}"
    return _declare(Setting(name, default, parse, f"a whole number, {bounds}", help_))


def _switch(name: str, *, default: bool, help_: str) -> Setting[bool]:
    return _declare(Setting(name, default, _boolean, "true or false", help_))


def _words(name: str, default: tuple[str, ...], help_: str) -> Setting[tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in text.split(",") if word.strip())

    return _declare(Setting(name, default, parse, "words separated by commas", help_))


def _prefix(text: str) -> str:
    if not 1 <= len(text) <= 20 or not text.replace("-", "").isalnum() or not text.isascii():
        raise ValueError(text)
    return text


def _tax_behavior(text: str) -> str:
    if text not in ("exclusive", "inclusive"):
        raise ValueError(text)
    return text


def declared() -> Iterator[Setting[object]]:
    """Every setting, in the order of declaration."""
    yield from SETTINGS.values()


DEBUG = _switch(
    "FAREBOX_DEBUG", default=False, help_="Django's debug pages. Never on in production."
)
SECRET_KEY = _text(
    "FAREBOX_SECRET_KEY",
    "",
    "Signs sessions and form tokens. Required unless FAREBOX_DEBUG is on; 50 random characters.",
    secret=True,
)
ALLOWED_HOSTS = _words(
    "FAREBOX_ALLOWED_HOSTS", ("localhost", "127.0.0.1", "[::1]"), "Host names served."
)
BASE_URL = _text(
    "FAREBOX_BASE_URL",
    "http://127.0.0.1:8402",
    "Where customers reach Farebox: links in problems, remedies, mails and Stripe's returns.",
)
HTTPS = _switch(
    "FAREBOX_HTTPS",
    default=False,
    help_="Served over HTTPS: secure cookies and strict transport security.",
)
DATABASE_URL = _text(
    "FAREBOX_DATABASE_URL",
    "",
    "PostgreSQL 15 or newer: postgresql://user:password@host:5432/name. "
    "Empty: the embedded one that `make run` starts.",
    secret=True,
)
BROKER_URL = _text(
    "FAREBOX_BROKER_URL",
    "",
    "Celery's broker (amqp://, redis://, pgmq://). Empty: pgmq on the same PostgreSQL.",
    secret=True,
)
GATE_QUEUE = _whole(
    "FAREBOX_GATE_QUEUE",
    20_000,
    "Calls that may wait in one gate process before further ones get 503 overloaded.",
    least=1,
)
GATE_WAIT_MS = _whole(
    "FAREBOX_GATE_WAIT_MS",
    100,
    "How long checks may wait for their answers on average, in one gate process, before further "
    "ones get 503 overloaded.",
    least=1,
)
GATE_BATCH = _whole(
    "FAREBOX_GATE_BATCH", 512, "Calls decided and written by one statement at most.", least=1
)
GATE_COPIES = _whole(
    "FAREBOX_GATE_COPIES",
    50_000,
    "Customers whose state a gate process keeps in memory, about 4 kB each.",
    least=1,
)
GATE_DEADLINE_MS = _whole(
    "FAREBOX_GATE_DEADLINE_MS",
    2_000,
    "How long a call may wait for the database before it gets 503 unavailable.",
    least=50,
)
GATE_STATEMENT_TIMEOUT_MS = _whole(
    "FAREBOX_GATE_STATEMENT_TIMEOUT_MS", 1_500, "PostgreSQL's limit on one statement.", least=50
)
EVENT_MAX_AGE_DAYS = _whole(
    "FAREBOX_EVENT_MAX_AGE_DAYS", 90, "How far back an event's time may lie.", least=1
)
EVENT_MAX_AHEAD_S = _whole(
    "FAREBOX_EVENT_MAX_AHEAD_S", 300, "How far ahead of our clock an event's time may lie."
)
CLOCKS_APART_S = _whole(
    "FAREBOX_CLOCKS_APART_S",
    300,
    "How far a process's clock may be from the database's. A gate whose clock is further off "
    "answers 503 unavailable, a worker leaves its tasks undone, and /readyz says so.",
    least=10,
    most=43_200,
)
QUARANTINE_EVENTS = _whole(
    "FAREBOX_QUARANTINE_EVENTS",
    0,
    "How many refused events are kept at most, to be counted once what they were refused for is "
    "mended. 0 keeps none.",
)
QUARANTINE_BYTES = _whole(
    "FAREBOX_QUARANTINE_BYTES",
    100_000_000,
    "How many bytes the refused events that wait may have together, about; one of more than 64 KiB "
    "is not kept.",
    least=100_000,
)
QUARANTINE_DAYS = _whole(
    "FAREBOX_QUARANTINE_DAYS", 30, "How long a refused event is kept.", least=1
)
EVENTS_KEPT_MONTHS = _whole(
    "FAREBOX_EVENTS_KEPT_MONTHS",
    0,
    "How many whole months of raw usage events are kept beside the current one, 3 at least; older "
    "ones are exported and dropped once no invoice and no window needs them. 0 keeps all.",
)
EXPORT_FOLDER = _text(
    "FAREBOX_EXPORT_FOLDER",
    "",
    "Where months of usage events are exported to before they are dropped; the same place for "
    "every worker. Empty: nothing is dropped.",
)
STRIPE_API_KEY = _text(
    "STRIPE_API_KEY", "", "sk_test_… or sk_live_…. Empty: the local simulator.", secret=True
)
STRIPE_API_BASE = _text(
    "FAREBOX_STRIPE_API_BASE",
    "",
    "Another address for Stripe's API: the simulator's. Empty: Stripe itself.",
)
STRIPE_WEBHOOK_SECRET = _text(
    "FAREBOX_STRIPE_WEBHOOK_SECRET",
    "",
    "whsec_…: verifies what arrives at /api/v1/stripe/webhook.",
    secret=True,
)
STRIPE_TAX = _switch(
    "FAREBOX_STRIPE_TAX",
    default=False,
    help_="Let Stripe Tax compute the tax of invoices that Stripe collects, and tell Stripe the "
    "billing address, tax id and tax status of customers.",
)
STRIPE_TAX_BEHAVIOR = _declare(
    Setting(
        "FAREBOX_STRIPE_TAX_BEHAVIOR",
        "",
        _tax_behavior,
        "exclusive or inclusive",
        "Whether tax comes on top of prices or is part of them. Empty: as Stripe's tax settings "
        "say.",
    )
)
STRIPE_TAX_CODE = _text(
    "FAREBOX_STRIPE_TAX_CODE",
    "",
    "Stripe's tax code of what is sold (txcd_…). Empty: as Stripe's tax settings say.",
)
BILLING_TICK_S = _whole(
    "FAREBOX_BILLING_TICK_S",
    60,
    "Seconds between two looks of the beat at pending work (closing, pushing, inbox, rollups).",
    least=1,
)
CLOSE_GRACE_S = _whole(
    "FAREBOX_CLOSE_GRACE_S",
    3_600,
    "Seconds after a period's end in which late events still join its invoice.",
)
SELLER_NAME = _text(
    "FAREBOX_SELLER_NAME", "", "The legal name that invoices are from. Empty: they name nobody."
)
SELLER_ADDRESS = _text(
    "FAREBOX_SELLER_ADDRESS", "", "Its address as invoices show it, lines separated by ` | `."
)
SELLER_TAX_ID = _text("FAREBOX_SELLER_TAX_ID", "", "Its tax id as invoices show it.")
SELLER_EMAIL = _text("FAREBOX_SELLER_EMAIL", "", "Whom customers ask about their invoices.")
INVOICE_FOOTER = _text(
    "FAREBOX_INVOICE_FOOTER", "", "What stands at the foot of every invoice: registers, a bank."
)
INVOICE_PREFIX = _declare(
    Setting(
        "FAREBOX_INVOICE_PREFIX",
        "INV",
        _prefix,
        "1 to 20 letters, digits and dashes",
        "What invoice numbers begin with. Each prefix counts for itself, without gaps: give every "
        "legal entity its own.",
    )
)
INVOICE_FONTS = _words(
    "FAREBOX_INVOICE_FONTS",
    (),
    "TrueType files for what the PDF's own font does not have (it has Latin, Greek, Cyrillic; "
    "Chinese, Japanese and Korean are drawn by the reader's fonts).",
)
SUSPEND_ON_LOST_DISPUTE = _switch(
    "FAREBOX_SUSPEND_ON_LOST_DISPUTE",
    default=True,
    help_="Suspend a customer whose dispute of a payment we lost, until an operator resumes it.",
)
METRICS_KEY = _text(
    "FAREBOX_METRICS_KEY",
    "",
    "What Prometheus sends as bearer to /metrics. Empty: anybody who reaches it may read it.",
    secret=True,
)
METRICS_DIR = _text(
    "FAREBOX_METRICS_DIR",
    "",
    "A folder in which the processes of one machine share what they count, so that each of them "
    "answers /metrics for all. Empty it before they start. Unset: each answers for itself.",
)
LOG_LEVEL = _text("FAREBOX_LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR.")
LOG_FORMAT = _text("FAREBOX_LOG_FORMAT", "json", "json for machines, console for people.")
EMAIL_FROM = _text("FAREBOX_EMAIL_FROM", "billing@localhost", "Sender of mails to customers.")
