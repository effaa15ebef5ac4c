"""Changes as Firestore's own messages, undressed.

The library makes the same messages out of its dressed ones, in ten times the time; a job waits for it twice, and so
does every other thread, because none of that time is spent outside of Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.cloud.firestore_v1._helpers import encode_value
from google.cloud.firestore_v1.field_path import render_field_path
from google.cloud.firestore_v1.types import DocumentTransform, Value, Write

from daemon.adapters.firestore.times import from_version
from daemon.core.job import DELETE, SERVER_TIME, Changes

REQUEST_TIME = DocumentTransform.FieldTransform.ServerValue.REQUEST_TIME
RawWrite = type(Write.pb(Write()))
SIMPLE = {bool: "boolean_value", int: "integer_value", float: "double_value", str: "string_value"}  # most values are


def update(name: str, changes: Changes, *, version: int) -> Write:
    """The write of ``changes`` to the document of this full name, on the condition that it is still this version."""
    write = RawWrite(current_document={"update_time": from_version(version)})
    write.update.name = name
    write.update_mask.SetInParent()  # a write without a mask, even an empty one, replaces the whole document
    for path, value in changes.fields.items():
        if value is SERVER_TIME:
            write.update_transforms.add(field_path=path, set_to_server_value=REQUEST_TIME)
            continue
        write.update_mask.field_paths.append(path)
        if value is DELETE:
            continue
        fields = write.update.fields
        *maps, last = path.split(".")
        for step in maps:
            fields = fields[step].map_value.fields
        _fill(fields[last], value, path, write)
    wrapped: Write = Write.wrap(write)
    return wrapped


def _fill(place: Any, value: Any, path: str, write: Any) -> None:
    """Make ``place`` hold ``value``; what the server fills in goes into the write's transforms.

    ``path`` is where the place is, or empty inside of a list, where the server fills in nothing.
    """
    if (kind := SIMPLE.get(type(value))) is not None:
        setattr(place, kind, value)
    elif isinstance(value, Mapping):
        place.map_value.SetInParent()
        for key, item in value.items():
            inside = (
                f"{path}.{render_field_path([key])}"
                if path and (item is SERVER_TIME or isinstance(item, Mapping))
                else ""
            )
            if item is SERVER_TIME and inside:
                write.update_transforms.add(field_path=inside, set_to_server_value=REQUEST_TIME)
            else:
                _fill(place.map_value.fields[key], item, inside, write)
    elif isinstance(value, list | tuple):
        place.array_value.SetInParent()
        for item in value:
            _fill(place.array_value.values.add(), item, "", write)
    else:  # times and whatever else Firestore knows
        place.CopyFrom(Value.pb(encode_value(value)))
