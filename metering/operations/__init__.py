"""Everything that changes metering outside the gate; one call is one transaction."""
