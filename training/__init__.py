"""The embedded model: drawn images, questions about them, training and evaluation. Not in the wheel."""
