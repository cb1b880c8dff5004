"""pytest plugin: what `make test` measures the coverage of, and what it leaves alone for speed.

A tracer makes Python half as slow again, whatever code runs. So only the tests that are to cover
domain/ and operations/ are traced, and in those Django's database layer is not: it calls neither.
Where that would ever lose a branch, `make test` says so.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Generator
from typing import ParamSpec, TypeVar

import pytest
from django.db.backends.base.creation import BaseDatabaseCreation
from django.db.backends.utils import CursorWrapper
from django.db.models import Model, QuerySet

_P = ParamSpec("_P")
_R = TypeVar("_R")
_ROOMS = frozenset({"domain", "operations"})
_UNTRACED = {
    BaseDatabaseCreation: ("create_test_db", "destroy_test_db"),
    CursorWrapper: ("execute", "executemany"),
    Model: ("save_base", "refresh_from_db"),
    QuerySet: (
        *("_fetch_all", "_filter_or_exclude", "get", "first", "count", "exists", "aggregate"),
        *("update", "delete", "bulk_create", "bulk_update", "values_list", "annotate"),
    ),
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Trace this test or do not; all modules are imported by now."""
    plugin = item.config.pluginmanager.get_plugin("_cov")
    if controller := plugin and plugin.cov_controller:
        _leave_the_database_layer_alone()
        traced = not _ROOMS.isdisjoint(item.path.parts) or item.get_closest_marker("traced")
        if traced and not controller.started:
            controller.resume()
        elif not traced and controller.started:
            controller.pause()
    return (yield)


@functools.cache
def _leave_the_database_layer_alone() -> None:
    for owner, names in _UNTRACED.items():
        for name in names:
            setattr(owner, name, _untraced(getattr(owner, name)))


def _untraced(function: Callable[_P, _R]) -> Callable[_P, _R]:
    @functools.wraps(function)
    def aside(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        tracer = sys.gettrace()
        if tracer is None:
            return function(*args, **kwargs)
        sys.settrace(None)
        try:
            return function(*args, **kwargs)
        finally:
            sys.settrace(tracer)

    return aside
