"""What a result says about its making: in the file itself, and in our map on the document.

No time, no attempt and no token is in it: the same request with the same seed gives the same file again. Prompts are
left out unless the operator wants them, because files travel further than documents.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from daemon.core.plan import Work
from models.spec import ModelSpec, Speed, Task

SOFTWARE = f"easeld {version('easeld')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How much is told: whether anything is, and the prompts too."""

    written: bool = True
    prompts: bool = False
    speed: Speed = field(default_factory=Speed)

    def in_file(self, work: Work, index: int) -> dict[str, Any] | None:
        """What stands in the file of a job's medium; its first has the index 0."""
        if not self.written:
            return None
        _, width, height, steps, frames = work.shape
        item = work.items()[index]
        about: dict[str, Any] = {
            "software": SOFTWARE,
            **made_with(work.spec, self.speed),
            "task": work.spec.task.value,
            "seed": item.seed,
            "width": width,
            "height": height,
            "num_inference_steps": steps,
            "guidance_scale": item.guidance_scale,
        }
        if work.spec.task is Task.TEXT2VIDEO:
            about |= {"num_frames": frames, "fps": work.request.fps}
        if self.prompts:
            about |= {"prompt": item.prompt, "negative_prompt": item.negative_prompt}
        return about

    def on_document(self, spec: ModelSpec) -> dict[str, str]:
        """What is not on the document anyway: request, model and seeds stand there by their names."""
        return {"software": SOFTWARE, **made_with(spec, self.speed)} if self.written else {}


def made_with(spec: ModelSpec, speed: Speed) -> dict[str, str]:
    """The model, exactly which weights where that can be told, and the settings that change what a seed shows."""
    source = spec.repository or (spec.builtin and f"built-in {spec.builtin}") or (spec.path and spec.path.name)
    told = {"model": spec.name, "weights": source, "revision": spec.revision}
    return {name: str(value) for name, value in told.items() if value} | speed.altering(spec.family)
