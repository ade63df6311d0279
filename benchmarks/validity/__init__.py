"""The validity study: what does a traceability score tell? See docs/validity.md."""
