"""Values of the public API: what callers pass in and get back. They know no engine and no backend."""
