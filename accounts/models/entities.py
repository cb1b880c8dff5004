"""What every entity shares: an id that sorts by age and tells nobody how many there are."""

from __future__ import annotations

import secrets
import time
from typing import ClassVar, Final

from django.db import models

from accounts.domain import ids

# What this process gave in the present millisecond: hundreds of rows are made in one.
_given: Final[dict[int, set[int]]] = {}


def new_entity_id() -> int:
    """A fresh id; two of one millisecond and of different processes collide once in four million
    pairs (and are refused)."""
    while True:
        milliseconds = time.time_ns() // 1_000_000
        if milliseconds not in _given:
            _given.clear()
        taken = _given.setdefault(milliseconds, set())
        random_bits = secrets.randbits(22)
        if random_bits not in taken:
            taken.add(random_bits)
            return ids.entity_id(milliseconds=milliseconds, random_bits=random_bits)


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
