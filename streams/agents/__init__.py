"""The stages as they run: each connects its step to batches, the producer and what it reads beside them."""
