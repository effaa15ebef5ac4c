"""Errors, named by what happens next to the job. Adapters and models raise these, with ``from exc``."""

from __future__ import annotations


class JobError(Exception):
    """A job cannot go on. The message is for the person who reads the document."""

    error_type: str = "Exception"  # the contract's name; clients branch on it

    def __init__(self, message: str, *, error_type: str | None = None) -> None:
        super().__init__(message)
        if error_type is not None:
            self.error_type = error_type


class Rejected(JobError):
    """The request's fault: the job fails, and the same request would fail again."""


class Failed(JobError):
    """Processing failed in a way that another attempt would repeat: the job fails."""

    error_type = "RuntimeError"


class Retryable(JobError):
    """A passing trouble: the job goes back, the attempt is counted, and it is tried later."""

    error_type = "ConnectionError"


class Crashed(Retryable):
    """The job took the device or the worker down: it goes back, the attempt is counted, and it will run alone."""

    error_type = "RuntimeError"


class LeaseLost(Exception):
    """The job is no longer ours (rescued, cancelled, rewritten, deleted): drop it quietly."""


class Interrupted(Exception):
    """We were told to stop: the job goes back and the attempt is not counted."""


class DeviceLost(Exception):
    """The device is unusable in this process: the job goes back and the process exits for its supervisor."""


class StoreUnavailable(Exception):
    """The store cannot be reached or refuses every call; it says nothing of any job."""


class BlobsUnavailable(Exception):
    """The blob store cannot be reached or refuses every call; it says nothing of any job."""


class WrongSettings(Exception):
    """Nothing can work with these settings; the message says which and what to do."""


class DocumentTooLarge(Exception):
    """The store refuses a write for the document's size or its index entries; nothing of ours made it so large."""
