"""How plugins call their tools: one client with the pool, the timeouts, the repeats, the errors and the metering."""
