"""Sweeps as jobs on a Ray cluster.

A client sends a job by the cluster's Jobs API (`client`, `package`); in the cluster one process
drives the sweep (`driver`). It has the run directory on its own disk and mirrors it (`mirror`) to a
storage (`store`) that the cluster and its users both reach, from which a client fetches it, and the
next driver goes on where one was lost. Nothing here imports Ray: what runs on it is in
`sweeps.execution`.
"""
