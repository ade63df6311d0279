"""What tracerank costs, measured side by side with what it is compared to, in one run."""
