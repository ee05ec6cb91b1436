"""Model families: everything that is specific to one architecture, and the checks of a model folder."""
