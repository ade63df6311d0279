"""Ray Tune: every training runs as a Tune trial on a reused actor. All that imports Ray."""

from sweeps.execution.run import execute

__all__ = ["execute"]
