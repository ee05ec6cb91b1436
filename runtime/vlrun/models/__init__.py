"""Model families, their registry, and the verification of model folders."""
