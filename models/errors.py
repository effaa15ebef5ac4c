"""What can go wrong in a model, named by what the caller can do about it. No torch here.

The message of each is for the person who reads the failed document or the log.
"""


class ModelError(Exception):
    """Something went wrong in a model."""


class ModelMissing(ModelError):
    """The model should be there and is not: its weights cannot be found or read."""


class DeviceUnfit(ModelError):
    """The device that was asked for is not there, or computes wrongly."""


class ModelAway(ModelMissing):
    """The model's weights cannot be fetched at the moment: the network or the hub is away."""


class OutOfMemory(ModelError):
    """The device's memory does not suffice for this call; the model stays usable."""


class BadOutput(ModelError):
    """The model's output is no picture: a frame is not finite, or all of it is one colour."""


class DeviceLost(ModelError):
    """The device's context is poisoned; only a new process can use the device again."""


class GenerationFailed(ModelError):
    """The pipeline raised; its exception is the cause."""
