"""What metering can be asked; nothing here writes."""
