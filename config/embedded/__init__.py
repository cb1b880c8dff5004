"""What `make run` and the tests start themselves: a PostgreSQL from the package index."""
