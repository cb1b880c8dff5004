"""Files that are made while they are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from rest_framework.negotiation import BaseContentNegotiation


class Download(StreamingHttpResponse):
    """The chunks as a file to save, one in memory at a time.

    The generator is closed however the answer ends, sent whole, broken off by an error or by a
    client that went away: what it holds open (a cursor, a transaction) it lets go of then.
    """

    def __init__(
        self,
        chunks: Generator[bytes],
        request: HttpRequest,
        *,
        name: str,
        media_type: str,
    ) -> None:
        # Under ASGI Django would gather a plain iterator before it sends anything.
        streamed = _one_by_one(chunks) if isinstance(request, ASGIRequest) else chunks
        super().__init__(streamed, content_type=media_type)
        self._chunks = chunks
        self["Content-Disposition"] = f'attachment; filename="{name}"'
        self["Cache-Control"] = "no-store"

    def close(self) -> None:
        """Close the generator too; Django calls this in the thread that the generator ran in."""
        self._chunks.close()
        super().close()


async def _one_by_one(chunks: Generator[bytes]) -> AsyncIterator[bytes]:
    following = sync_to_async(lambda: next(chunks, None), thread_sensitive=True)
    while (chunk := await following()) is not None:
        yield chunk


class AnyAnswer(BaseContentNegotiation):
    """For views of downloads: files are files and problems JSON, whatever `Accept` says."""

    def select_parser(self, request: Any, parsers: Any) -> Any:  # noqa: ARG002
        """The only one."""
        return next(iter(parsers))

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:  # noqa: ARG002
        """The only one, for problems."""
        renderer = next(iter(renderers))
        return renderer, renderer.media_type
