"""The embedded model: drawn pictures, questions about them, training and evaluation. Needs the workbench packages."""
