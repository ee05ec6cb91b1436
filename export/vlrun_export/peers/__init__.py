"""The peers on the benchmark's course (``vlrun.bench.course``), each through its own interface as its users call it."""
