"""The benchmark of ``vlrun bench``: a fixed workload, and the machine's limits."""
