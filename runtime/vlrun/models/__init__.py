"""Model families (what is specific to one architecture), their registry, and the verification of model folders."""
