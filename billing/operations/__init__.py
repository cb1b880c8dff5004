"""Everything that changes billing; one call is one transaction."""
