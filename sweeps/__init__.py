"""From a configuration to a ranking: trials, their ledger, and the report."""
