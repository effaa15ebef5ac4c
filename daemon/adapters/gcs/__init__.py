"""The media in Cloud Storage."""

from daemon.adapters.gcs.blobs import GcsBlobs

__all__ = ["GcsBlobs"]
