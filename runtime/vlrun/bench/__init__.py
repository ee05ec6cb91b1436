"""The benchmark behind ``vlrun bench``: a fixed workload, and what the machine could do at best."""
