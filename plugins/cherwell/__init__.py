"""Cherwell: one-step deliveries in, the business object API out."""
