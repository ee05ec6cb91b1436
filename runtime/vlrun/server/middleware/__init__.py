"""What strangers meet first: framing, deadlines and sizes, names and keys. Nothing here knows what a body says."""
