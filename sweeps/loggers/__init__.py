"""Told trials in other people's tools: one file a logger, behind `Logger`."""

from sweeps.loggers.logbook import Logbook, require_loggers
from sweeps.loggers.logged_trial import LoggedTrial, Logger

__all__ = ["Logbook", "LoggedTrial", "Logger", "require_loggers"]
