"""Training of the built-in models on drawn pictures: ``python -m models.builtin.train``, and ``….train.video``."""
