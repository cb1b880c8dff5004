"""The management API of metering."""
