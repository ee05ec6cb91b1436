"""The benchmark: a fixed course for vlrun and its peers, and what the machine could do at best."""
