"""Load test of the service: a soak with many clients, and the overhead of HTTP compared with the engine alone."""
