"""Tenants: their tools and rules as files people write, as events on tenants.v1, and as the versions an event is judged by."""
