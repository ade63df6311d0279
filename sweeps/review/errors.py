"""What a review can't be served for, and what it has not."""

from __future__ import annotations


class ReviewError(ValueError):
    """A folder, an address or a token with which no review can be served."""


class MissingError(LookupError):
    """What was asked for isn't there."""
