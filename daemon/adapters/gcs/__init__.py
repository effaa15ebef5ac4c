"""The media in Cloud Storage."""

from daemon.adapters.gcs.addresses import AddressStyle
from daemon.adapters.gcs.blobs import GcsBlobs

__all__ = ["AddressStyle", "GcsBlobs"]
