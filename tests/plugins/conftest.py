"""Settings of the property tests here."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("no deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no counterexample
settings.load_profile("no deadline")
