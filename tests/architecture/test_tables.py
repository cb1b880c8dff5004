"""Tables: who may point at whom, what can be distributed by customer, migrations in one line."""

from __future__ import annotations

import re

import pytest
from django.apps import apps
from django.db import connection, models
from django.db.migrations.loader import MigrationLoader

from tests.architecture.sources import APPS, ROOT

# Tables of metering that do not grow with the calls; every other one does.
NOT_HOT = {
    # Small and the same for everyone: they become reference tables.
    *("meter", "meterversion", "pricetable", "pricetableversion", "tokenprice", "offer"),
    *("rollupreach", "retiredmonth", "holdreach", "tally"),  # 64 rows; one a month; one; one
    # One for each time that an operator mends something, or something broke.
    *("backfill", "fault"),
    "gatewayfault",  # one by gateway and code
    "usagebatch",  # a queue that is empty most of the time
    "quarantinedevent",  # bounded by a setting, and the customer may be unknown
}
PACKED = "metering_usageevent"  # what the model of events is a view of


def _models() -> list[type[models.Model]]:
    return [model for app in APPS for model in apps.get_app_config(app).get_models()]


def _hot_models() -> list[type[models.Model]]:
    return [
        model
        for model in apps.get_app_config("metering").get_models()
        if model._meta.model_name not in NOT_HOT
    ]


def test_foreign_keys_point_down_the_line_of_apps() -> None:
    wrong = [
        f"{model._meta.label}.{field.name} -> {target._meta.label}"
        for model in _models()
        for field in model._meta.get_fields()
        if not field.auto_created
        and isinstance(target := field.related_model, type)
        and (there := target._meta.app_label) in APPS
        and APPS.index(there) > APPS.index(model._meta.app_label)
    ]
    assert wrong == []


def test_tables_that_grow_with_the_calls_name_the_customer_in_their_key() -> None:
    wrong = [
        model._meta.label
        for model in _hot_models()
        if "customer_id" not in {field.attname for field in model._meta.pk_fields}
    ]
    assert wrong == []


def test_the_documents_say_of_every_table_how_it_is_distributed() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    distributed = text.partition("create_distributed_table(name")[2].partition("AS name")[0]
    hot = {model._meta.db_table for model in _hot_models() if model._meta.managed} | {PACKED}
    assert set(re.findall(r"'(metering_\w+)'", distributed)) == hot
    others = {f"metering_{name}" for name in NOT_HOT}
    assert {name for name in others if not re.search(rf"\b{name}\b", text)} == set()


def test_models_order_nothing_by_default() -> None:
    """A hidden ORDER BY on a large table is a cost nobody wrote down."""
    assert [model._meta.label for model in _models() if model._meta.ordering] == []


@pytest.mark.django_db
def test_every_unique_index_of_a_hot_table_holds_the_customer() -> None:
    """Citus enforces uniqueness only where the distribution column is part of it."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT index.indexrelid::regclass::text
              FROM pg_index AS index
             WHERE index.indisunique
               AND coalesce((SELECT inhparent FROM pg_inherits WHERE inhrelid = index.indrelid),
                            index.indrelid)::regclass::text = ANY(%s)
               AND NOT EXISTS (
                   SELECT 1 FROM pg_attribute AS attribute
                    WHERE attribute.attrelid = index.indrelid
                      AND attribute.attname = 'customer_id'
                      AND attribute.attnum = ANY(index.indkey)
               )
            """,
            [[*(model._meta.db_table for model in _hot_models()), PACKED]],
        )
        assert cursor.fetchall() == []


def test_migrations_form_one_line_per_app() -> None:
    graph = MigrationLoader(None, ignore_no_migrations=True).graph
    for app in APPS:
        assert len(graph.leaf_nodes(app)) <= 1, f"{app} has two newest migrations"
        for node in (key for key in graph.nodes if key[0] == app):
            children = [each.key for each in graph.node_map[node].children if each.key[0] == app]
            assert len(children) <= 1, f"{node} forks into {children}"
