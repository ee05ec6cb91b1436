"""Files in the user's cache folder: atomic writes, checksums, eviction."""
