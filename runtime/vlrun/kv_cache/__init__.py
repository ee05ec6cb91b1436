"""Where past tokens live. Knows blocks and lengths, not what tokens mean."""
