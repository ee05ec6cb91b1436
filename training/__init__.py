"""The embedded model: drawn images, questions about them, training and evaluation. Needs the workbench packages."""
