"""Freshservice: workflow automator deliveries in, REST v2 out."""
