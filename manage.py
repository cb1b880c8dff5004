#!/usr/bin/env python3
"""Django's command line for Farebox."""

import os
import sys


def main() -> None:
    """Run one management command with Farebox's settings."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    from config.environment import SettingInvalid

    try:
        execute_from_command_line(sys.argv)
    except SettingInvalid as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
