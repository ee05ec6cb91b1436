"""Comparison with other runtimes, load test of the service, random checkpoint. Not in the wheel."""
