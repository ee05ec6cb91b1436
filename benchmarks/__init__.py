"""Comparison with peers, and the service under load. Needs the workbench packages; not in the wheel."""
