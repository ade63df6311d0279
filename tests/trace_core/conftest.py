"""A busy machine is no failure: examples have no deadline."""

from hypothesis import settings

settings.register_profile("undated", deadline=None)
settings.load_profile("undated")
