#!/bin/sh
# What this container is: web, gate, worker, beat or migrate; anything else is a command of
# manage.py. `exec` makes it process 1, so that `docker stop` reaches it and work in hand is done.
set -eu

role=${1:-web}
[ $# -eq 0 ] || shift

serve() {
    exec uvicorn config.asgi:application --host 0.0.0.0 --port 8402 \
        --loop uvloop --http config.shortcut:ShortcutProtocol --no-access-log --no-server-header \
        --timeout-graceful-shutdown 20 "$@"
}

case $role in
    web) serve "$@" ;;
    # One process: docs/gate.md has what a second one brings. `gate --workers 4` starts more.
    gate) serve "$@" ;;
    worker) exec celery -A config.celery worker --without-gossip --without-mingle "$@" ;;
    beat) exec celery -A config.celery beat --schedule /tmp/beat --pidfile= "$@" ;;
    # Tables, the broker where it is PostgreSQL, and partitions for the months to come.
    migrate) exec python manage.py prepare "$@" ;;
    *) exec python manage.py "$role" "$@" ;;
esac
