"""The webhook door: verify, make durable, answer. Broker first, local spool when the broker does not answer in time."""
