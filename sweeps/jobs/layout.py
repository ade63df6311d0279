"""The files in a job's folder of the storage that are no part of the run directory there."""

from __future__ import annotations

DRIVER = "driver.json"
"""The driver's sign of life."""

PROGRESS = "progress.json"
"""How far it says it is: whoever waits for the job shows it."""

STOP = "stop"
"""A client's request that an attempt end."""

CONTROL = (DRIVER, PROGRESS, STOP)
