"""What can be generated, and with which weights: specifications as data, pipelines loaded with diffusers.

Imports nothing of ``daemon``. ``models.spec``, ``models.catalog`` and ``models.errors`` import no torch, so that the
HTTP shim and the client commands start quickly.
"""
