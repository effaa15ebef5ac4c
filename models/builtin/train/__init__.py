"""Training of the built-in image model on procedurally drawn pictures: ``python -m models.builtin.train``."""
