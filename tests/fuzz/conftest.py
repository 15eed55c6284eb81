"""Fuzzing: a short run with the other tests, a long one by ``pytest tests/fuzz --hypothesis-profile=fuzz``."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fuzz", max_examples=200_000, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
