"""Tells how many seconds lie between two looks of the beat at a task."""

from __future__ import annotations

import json
import sys

import django

django.setup()

from config.celery import BEAT  # noqa: E402

if __name__ == "__main__":
    sys.stdout.write(json.dumps(BEAT[sys.argv[1]]))
