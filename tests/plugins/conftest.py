"""Settings of the property tests here."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # a busy machine is no counterexample
settings.load_profile("no deadline")
