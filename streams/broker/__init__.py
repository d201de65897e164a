"""A real Apache Kafka without Docker, and what is asked of any Kafka: topics, offsets, lag."""
