"""What keeps a review from being served."""

from __future__ import annotations


class NotThereError(LookupError):
    """A run, or something of it, that isn't there."""


class ReviewError(ValueError):
    """A folder, an address or a token with which no review can be served."""
