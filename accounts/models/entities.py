"""What every entity shares: an id that sorts by age and tells nobody how many there are."""

from __future__ import annotations

import secrets
import time
from typing import ClassVar

from django.db import models

from accounts.domain import ids


def new_entity_id() -> int:
    """A fresh id; two of one millisecond collide once in four million pairs (and are refused)."""
    return ids.entity_id(milliseconds=time.time_ns() // 1_000_000, random_bits=secrets.randbits(22))


class Entity(models.Model):
    """A row with a public id `<PREFIX>_…`."""

    PREFIX: ClassVar[str]
    id = models.BigIntegerField(primary_key=True, default=new_entity_id, editable=False)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        """The id as the API shows it."""
        return ids.encode(self.PREFIX, self.id)
