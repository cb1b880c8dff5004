"""A browser without a window: follows links and redirects, keeps cookies, submits forms."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, Request, build_opener


@dataclass(slots=True)
class Form:
    """A form, its hidden and filled-in fields, and what its buttons say."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    text: str = ""


class Browser:
    """One visitor. `url` is where it is, `page` what it sees."""

    def __init__(self) -> None:
        self._opener = build_opener(HTTPCookieProcessor(CookieJar()))
        self.url = ""
        self.page = ""

    def visit(self, url: str) -> None:
        """Go there, and on to where that leads."""
        self._open(Request(url))

    def submit(self, saying: str, **filled: str) -> None:
        """Fill in and send the form whose text has these words."""
        (form,) = [form for form in forms(self.page) if saying in form.text]
        assert form.method == "post"
        assert filled.keys() <= form.fields.keys()
        body = urlencode({**form.fields, **filled}).encode()
        headers = {"Referer": self.url}
        self._open(Request(urljoin(self.url, form.action or self.url), body, headers))

    def _open(self, request: Request) -> None:
        with self._opener.open(request, timeout=30) as answer:
            self.url, self.page = answer.url, answer.read().decode()


def forms(page: str) -> list[Form]:
    """Every form of a page."""
    reader = _Reader()
    reader.feed(page)
    return reader.found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._inside = True
            self.found.append(Form(given.get("action", ""), given.get("method", "get").lower()))
        elif self._inside and tag == "input" and "name" in given:
            self.found[-1].fields[given["name"]] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found[-1].text += data
