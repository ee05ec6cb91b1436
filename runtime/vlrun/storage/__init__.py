"""Files in the user's cache: written whole, checksummed, evicted."""
