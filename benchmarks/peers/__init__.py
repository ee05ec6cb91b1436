"""The peers on the benchmark's workload, each through its own interface as its users call it."""
