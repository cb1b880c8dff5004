"""An invoice as a PDF: A4, in its own fonts, the same bytes for the same document."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, Final, cast
from xml.sax.saxutils import escape

from django.conf import settings
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table

from billing.documents.facts import InvoiceDocument, LineRow, Pair
from billing.domain.parties import Party

_FONTS: Final = Path(__file__).parent / "fonts"
_PLAIN, _BOLD = "DejaVuSans", "DejaVuSans-Bold"
# What every reader of PDF has a font for, by the beginning of a character's Unicode name.
_READERS_FONTS: Final = {
    "HANGUL": "HYGothic-Medium",
    "HIRAGANA": "HeiseiKakuGo-W5",
    "KATAKANA": "HeiseiKakuGo-W5",
    "CJK": "STSong-Light",
    "IDEOGRAPHIC": "STSong-Light",
    "FULLWIDTH": "STSong-Light",
}
_QUIET, _RULE = HexColor("#5a6675"), HexColor("#d9dee6")
_WIDTH: Final = A4[0] - 40 * mm
_COLUMNS: Final = (_WIDTH - 65 * mm, 35 * mm, 30 * mm)
_TIER_COLUMNS: Final = (_WIDTH - 115 * mm, 40 * mm, 45 * mm, 30 * mm)
_PADDING: Final = 6  # what reportlab leaves free inside a frame, in points


def invoice_pdf(document: InvoiceDocument) -> bytes:
    """The PDF. What no font has is drawn as the font's sign for a missing character."""
    _register()
    out = io.BytesIO()
    page = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=20 * mm - _PADDING,
        rightMargin=20 * mm - _PADDING,
        topMargin=18 * mm,
        bottomMargin=22 * mm,
        title=document.title,
        author=document.seller.name,
        lang="en",
        invariant=1,  # no date and no chance in it
    )

    def foot(canvas: Any, _: Any) -> None:
        words = " · ".join(filter(None, [document.title, f"page {canvas.getPageNumber()}"]))
        below = Paragraph(_marked(words), _style(7, colour=_QUIET))
        above = Paragraph(_marked(document.footer), _style(7, colour=_QUIET))
        for paragraph, bottom in ((above, 13 * mm), (below, 8 * mm)):
            paragraph.wrap(_WIDTH, 10 * mm)
            paragraph.drawOn(canvas, 20 * mm, bottom)

    page.build(list(_story(document)), onFirstPage=foot, onLaterPages=foot)
    return out.getvalue()


def _story(document: InvoiceDocument) -> Iterator[Flowable]:
    yield _text(document.title, _style(17, bold=True, leading=22))
    yield Spacer(1, 5 * mm)
    yield _parties(document)
    yield Spacer(1, 5 * mm)
    yield _pairs(document.facts)
    yield Spacer(1, 6 * mm)
    yield _lines(document.lines)
    yield Spacer(1, 2 * mm)
    yield _totals(document.totals)
    parts = (("Credit notes", document.credit_notes), ("Payment attempts", document.payments))
    for heading, pairs in parts:
        if pairs:
            yield Spacer(1, 5 * mm)
            yield _text(heading, _style(10, bold=True))
            yield _pairs(pairs)


def _parties(document: InvoiceDocument) -> Flowable:
    named = [("From", document.seller)] if document.seller.name else []
    named.append(("To", document.buyer))
    cells = [[_text(word, _style(8, colour=_QUIET)), *_party(party)] for word, party in named]
    return Table([cells], colWidths=[_WIDTH / len(cells)] * len(cells), style=_FLAT)


def _party(party: Party) -> list[Flowable]:
    lines = [*party.address, f"Tax id {party.tax_id}" * bool(party.tax_id), party.email]
    return [
        _text(party.name, _style(9, bold=True)),
        *(_text(line, _style(9)) for line in lines if line),
    ]


def _pairs(pairs: Sequence[Pair]) -> Flowable:
    rows = [[_text(each.name, _style(9, colour=_QUIET)), _text(each.value, _style(9))]
            for each in pairs]  # fmt: skip
    return Table(rows, colWidths=[45 * mm, _WIDTH - 45 * mm], style=_FLAT)


def _lines(lines: Iterable[LineRow]) -> Flowable:
    head, right = _style(8, colour=_QUIET), _style(8, colour=_QUIET, right=True)
    rows: list[list[Any]] = [
        [_text("What", head), _text("Quantity", right), _text("Amount", right)]
    ]
    style: list[Any] = [*_FLAT, ("LINEBELOW", (0, 0), (-1, 0), 0.7, _QUIET)]
    for line in lines:
        what = [_text(line.description, _style(9))]
        if line.about:
            what.append(_text(line.about, _style(7.5, colour=_QUIET)))
        amounts = (line.quantity, line.amount)
        rows.append([what, *(_text(each, _style(9, right=True)) for each in amounts)])
        for tier in line.tiers:
            rows.append([_tier((tier.units, tier.quantity, tier.price, tier.amount)), "", ""])
            style.append(("SPAN", (0, len(rows) - 1), (-1, len(rows) - 1)))
        style.append(("LINEBELOW", (0, len(rows) - 1), (-1, len(rows) - 1), 0.4, _RULE))
    return Table(rows, colWidths=_COLUMNS, style=style, repeatRows=1)


def _tier(cells: Sequence[str]) -> Flowable:
    styles = [_style(7.5, colour=_QUIET), *[_style(7.5, colour=_QUIET, right=True)] * 3]
    row = [_text(each, style) for each, style in zip(cells, styles, strict=True)]
    return Table([row], colWidths=_TIER_COLUMNS, style=_INDENTED, hAlign="RIGHT")


def _totals(totals: Sequence[Pair]) -> Flowable:
    rows = [
        [
            _text(each.name, _style(9, bold=each.strong, right=True)),
            _text(each.value, _style(9, bold=each.strong, right=True)),
        ]
        for each in totals
    ]
    return Table(rows, colWidths=[_WIDTH - 45 * mm, 45 * mm], style=_FLAT)


_FLAT: Final = [
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 0),
    ("TOPPADDING", (0, 0), (-1, -1), 1.5),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
]
_INDENTED: Final = [*_FLAT, ("TOPPADDING", (0, 0), (-1, -1), 0)]


def _style(
    size: float,
    *,
    bold: bool = False,
    colour: Any = HexColor("#1b2430"),  # noqa: B008  (a constant)
    right: bool = False,
    leading: float | None = None,
) -> ParagraphStyle:
    return ParagraphStyle(
        "invoice",
        fontName=_BOLD if bold else _PLAIN,
        fontSize=size,
        leading=leading or size * 1.35,
        textColor=colour,
        alignment=TA_RIGHT if right else 0,
        splitLongWords=1,
    )


def _text(words: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(_marked(words, bold=style.fontName == _BOLD), style)


def _marked(words: str, *, bold: bool = False) -> str:
    """The words as reportlab wants them: what the font does not have, in one that has it."""
    pieces = []
    for font, letters in groupby(
        unicodedata.normalize("NFC", words), lambda each: _font(each, bold=bold)
    ):
        text = escape("".join(letters))
        pieces.append(text if font is None else f'<font name="{font}">{text}</font>')
    return "".join(pieces)


def _font(letter: str, *, bold: bool) -> str | None:
    """Another font for a letter; None: the one that is used anyway."""
    if _has(_BOLD if bold else _PLAIN, letter):
        return None
    for name in _extra():
        if _has(name, letter):
            return name
    return _READERS_FONTS.get(unicodedata.name(letter, "").split(" ")[0].split("-")[0])


def _has(font: str, letter: str) -> bool:
    return ord(letter) in _typeface(font).charToGlyph


def _typeface(font: str) -> Any:
    return cast("Any", pdfmetrics.getFont(font)).face  # ours are all TrueType


def _extra() -> list[str]:
    return [Path(path).stem for path in settings.INVOICE_FONTS]


@lru_cache(maxsize=1)
def _register() -> None:
    for name in (_PLAIN, _BOLD):
        pdfmetrics.registerFont(TTFont(name, str(_FONTS / f"{name}.ttf")))
    for path in settings.INVOICE_FONTS:
        pdfmetrics.registerFont(TTFont(Path(path).stem, path))
    for name in set(_READERS_FONTS.values()):
        pdfmetrics.registerFont(UnicodeCIDFont(name))
