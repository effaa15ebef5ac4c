"""What the pipeline families share: loading from a folder, one guarded call, and the frames out of it."""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from models import device as devices
from models import previews
from models.encoded import Encoded
from models.errors import BadOutput, DeviceUnfit, GenerationFailed, ModelMissing, OutOfMemory
from models.failure import first_line, is_device_lost, is_out_of_memory, too_large, translate
from models.guidance import PerItemGuidance
from models.ladder import Ladder, Rung
from models.pixels import Size, fitted, frames_from, on_grid, stretched
from models.prompts import heard
from models.spec import Call, Item, Speed, Task
from models.speed import apply

if TYPE_CHECKING:
    from models.spec import Frames, ModelSpec, OnStep


class DiffusionModel(ABC):
    """A loaded diffusers pipeline. Implements ``models.spec.Resident``; a family says how to call its pipeline."""

    pipeline_class: type[Any]
    network: str  # the pipeline's part that denoises
    pictures: tuple[str, ...] = ()  # its parts that convolve over pictures
    encodings: tuple[str, ...]  # what the pipeline calls the tensors of ``_encode``

    @classmethod
    def load(cls, *, spec: ModelSpec, folder: Path, device: torch.device, **others: Any) -> Self:
        """Load the pipeline from ``folder``, which is in diffusers' layout, onto ``device``; others as below.

        The VAE is kept in float32 on every device: SDXL's overflows in half precision, and Wan's loses detail.
        Only safetensors are read: the older format runs code on loading.

        Raises:
            ModelMissing: the folder is not such a model, or incomplete.
            DeviceUnfit: what ``speed`` asks for cannot be had on this device.
            torch.OutOfMemoryError, RuntimeError: as torch raises them while the weights move to the device.
        """
        dtypes = {"default": devices.dtype(device, spec.dtype), "vae": torch.float32}
        try:
            pipeline = cls.pipeline_class.from_pretrained(
                folder, dtype=dtypes, variant=spec.variant, use_safetensors=True, local_files_only=True
            )
        except Exception as error:
            if is_out_of_memory(error) or is_device_lost(error):
                raise
            raise ModelMissing(f"Model {spec.name} cannot be loaded from {folder}: {first_line(error)}") from error
        return cls(spec=spec, pipeline=pipeline, device=device, **others)

    def __init__(
        self,
        *,
        spec: ModelSpec,
        pipeline: Any,
        device: torch.device,
        make_room: Callable[[], bool] = lambda: False,
        speed: Speed = Speed(),  # noqa: B008 - it cannot change
    ) -> None:
        """Take a pipeline onto ``device``. ``make_room`` unloads something else from there, and tells whether it did.

        Raises:
            DeviceUnfit: what ``speed`` asks for cannot be had on this device.
        """
        self._spec = spec
        self._device = device
        self._pipeline = pipeline
        self._pipeline.to(device)
        self.compiles = apply(
            speed,
            network=getattr(pipeline, self.network),
            pictures=[getattr(pipeline, part) for part in self.pictures],
            device=device,
        )
        self._texts = Encoded(self._encode, most=speed.prompts_kept)
        self._pipeline.set_progress_bar_config(disable=True)
        # One item at a time: decoding needs the most memory of all, and on a CPU it is no slower for that.
        self._pipeline.vae.enable_slicing()
        self._make_room = make_room
        self._only = self._only_size()
        self._rung = Rung.PLAIN
        # On a CPU there is nowhere to offload to.
        self._ladder = Ladder(tuple(Rung) if device.type != "cpu" else (Rung.PLAIN, Rung.TILED))
        self._projection: torch.Tensor | None = None  # measured when somebody first looks

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    @property
    def weight_bytes(self) -> int:
        """The memory that the weights take, wherever they are."""
        networks = [part for part in self._pipeline.components.values() if isinstance(part, torch.nn.Module)]
        return sum(tensor.nbytes for network in networks for tensor in (*network.parameters(), *network.buffers()))

    @property
    def is_offloaded(self) -> bool:
        """Whether the weights are in the machine's memory while nothing computes."""
        return self._rung is Rung.OFFLOADED

    def leave_device(self) -> None:
        """Move all weights into the machine's memory. Nothing can be generated until ``enter_device``.

        Raises:
            RuntimeError, MemoryError: as torch raises them; the model is of no more use.
        """
        if self._rung is Rung.OFFLOADED:
            self._pipeline.remove_all_hooks()
        if self._rung is not Rung.PLAIN:
            self._pipeline.vae.disable_tiling()
        self._rung = Rung.PLAIN
        self._pipeline.to("cpu", silence_dtype_warnings=True)  # nothing computes there

    def enter_device(self) -> None:
        """Move them back.

        Raises:
            torch.OutOfMemoryError, RuntimeError: as torch raises them; it may be tried again.
        """
        self._pipeline.to(self._device)

    def generate(self, call: Call, on_step: OnStep) -> Sequence[Frames]:
        """As ``Resident.generate`` says.

        Each item's noise comes from a generator of its own, seeded with its seed and always on the CPU: so the noise
        depends neither on the device nor on the neighbours. Where memory falls short, the call is repeated as the
        ladder says; its steps are then reported from the first again.
        """
        call = self._heard(call)
        lacking = OutOfMemory(too_large(task=self._spec.task, call=call, device=self._device))
        for rung in self._ladder.tries(call):
            while True:
                try:
                    self._stand_on(rung)
                    frames = self._once(call, on_step)
                except OutOfMemory as error:
                    lacking = error
                else:
                    self._ladder.worked(call, rung)
                    return frames
                gc.collect()  # what the failed call made may refer to itself
                devices.release_memory(self._device)
                if not self._make_room():
                    break
        raise lacking

    def warm_up(self) -> None:
        """Run once alone and once in company, so that what is compiled is so before the first job.

        Raises:
            DeviceUnfit: compiling fails here, with the reason.
            OutOfMemory, DeviceLost: as in ``generate``.
        """
        width, height = int(self._spec.width.minimum), int(self._spec.height.minimum)
        frames = 9 if self._spec.task is Task.TEXT2VIDEO else 1
        item = Item(prompt="warm", negative_prompt="", seed=0, guidance_scale=5.0)
        call = Call(width=width, height=height, steps=1, frames=frames, items=(item,))
        try:
            self.generate(call, lambda *_: None)
            self.generate(
                replace(call, items=(replace(item, guidance_scale=1.0),)), lambda *_: None
            )  # half as many rows
            if self._spec.max_batch > 1:  # torch takes a batch of one for a case of its own, and all others for alike
                self.generate(replace(call, items=(item, item)), lambda *_: None)
        except BadOutput:  # what it looks like is no matter here
            pass
        except GenerationFailed as error:
            failed: Any = error.__cause__ or error
            reason = first_line(getattr(failed, "inner_exception", failed))  # torch's compiler wraps what it met
            raise DeviceUnfit(f"{self._spec.name} cannot be compiled here, so set compile to off: {reason}") from error

    def _heard(self, call: Call) -> Call:
        """Return the call with the prompts that the model should get, having warned of what they lack."""
        items = []
        for index, asked in enumerate(call.items):
            item, warnings = heard(self._spec, asked)
            items.append(item)
            if call.on_warning is not None:
                for what in (*warnings, *self._cut_short(item)):
                    call.on_warning(index, what)
        return replace(call, items=tuple(items))

    def _cut_short(self, item: Item) -> list[str]:
        """Say which of an item's prompts are longer than the text encoder reads; what follows has no effect."""
        warnings = []
        for which, text in (("prompt", item.prompt), ("negative prompt", item.negative_prompt)):
            tokens = len(self._pipeline.tokenizer(text, verbose=False).input_ids)
            if tokens > (most := self._most_tokens()):
                warnings.append(f"The {which} has {tokens} tokens, and model {self._spec.name} reads the first {most}")
        return warnings

    def _stand_on(self, rung: Rung) -> None:
        """Set the pipeline up for a rung of the ladder.

        Raises:
            OutOfMemory: coming down from offloading, the networks no longer fit onto the device.
        """
        if rung is self._rung:
            return
        if rung is Rung.PLAIN:
            self._pipeline.vae.disable_tiling()
        else:
            self._decode_by_tiles()
        if rung is Rung.OFFLOADED:
            self._pipeline.enable_model_cpu_offload(device=self._device)
        elif self._rung is Rung.OFFLOADED:
            self._pipeline.remove_all_hooks()
            try:
                self._pipeline.to(self._device)
            except Exception as error:
                if is_out_of_memory(error):
                    raise OutOfMemory(f"{self._spec.name} no longer fits onto {self._device}") from error
                raise
        self._rung = rung

    def _decode_by_tiles(self) -> None:
        self._pipeline.vae.enable_tiling()

    def _once(self, call: Call, on_step: OnStep) -> Sequence[Frames]:
        stopped_by: Exception | None = None

        def after_step(pipeline: Any, index: int, _time: Any, state: dict[str, Any]) -> dict[str, Any]:
            nonlocal stopped_by
            try:
                if call.on_look is not None:
                    call.on_look(partial(self._forming, call, state["latents"]))
                on_step(index + 1, pipeline.num_timesteps)
            except Exception as error:
                stopped_by = error
                raise
            return {}  # nothing of the pipeline's state is replaced

        spec = self._spec
        made = self._only or Size(
            width=on_grid(call.width, spec.size_grid),
            height=on_grid(call.height, spec.size_grid),
            frames=on_grid(call.frames - 1, spec.frame_grid) + 1,
        )
        guidance = PerItemGuidance([item.guidance_scale for item in call.items], self._device)
        try:
            decoded = self._decoded(
                **self._prompts(call, guided=guidance > 1.0),
                guidance_scale=guidance,
                generator=[torch.Generator("cpu").manual_seed(item.seed) for item in call.items],
                width=made.width,
                height=made.height,
                num_frames=made.frames,
                num_inference_steps=call.steps,
                callback_on_step_end=after_step,
            )
            videos = [self._asked_for(call, item) for item in decoded]
        except Exception as error:
            if error is stopped_by:
                raise
            translated = translate(error, task=self._spec.task, call=call, device=self._device)
            if translated is error:
                raise
            raise translated from error
        finally:
            # Offloads, and forgets what was kept from step to step; the pipeline does so only where nothing stops it.
            self._pipeline.maybe_free_model_hooks()
        return self._delivered(videos)

    def _asked_for(self, call: Call, made: torch.Tensor) -> Frames:
        """Turn what the pipeline made of one item, (frames, 3, height, width), into what was asked for."""
        if self._only is None:
            return frames_from(made, frames=call.frames, height=call.height, width=call.width)
        made = fitted(made, height=call.height, width=call.width)
        frames = frames_from(made, frames=min(call.frames, len(made)), height=call.height, width=call.width)
        return stretched(frames, call.frames)

    def _prompts(self, call: Call, *, guided: bool) -> dict[str, torch.Tensor]:
        """The pipeline's arguments that stand for the prompts, and where it is guided for the negative ones."""
        prompts = self._texts.of([item.prompt for item in call.items], self._device)
        arguments = dict(zip(self.encodings, prompts, strict=True))
        if guided:
            negative = self._texts.of([item.negative_prompt for item in call.items], self._device)
            arguments |= {f"negative_{name}": part for name, part in zip(self.encodings, negative, strict=True)}
        return arguments

    def _forming(self, call: Call, latents: torch.Tensor) -> Sequence[Frames]:
        """Small pictures of what latents are becoming; of a video, its middle."""
        if latents.ndim == 5:  # (items, channels, frames, rows, columns)
            latents = latents[:, :, latents.shape[2] // 2]
        if self._only is not None:  # too few latents to be looked at
            with torch.no_grad():
                return previews.shown(fitted(self._still(latents), height=call.height, width=call.width))
        if self._projection is None:
            self._projection = previews.measure(self._still, channels=latents.shape[1], device=latents.device)
        return previews.paint(latents, self._projection)

    def _only_size(self) -> Size | None:
        """Return what the pipeline makes whatever is asked for, None if it makes what is asked for."""
        return None

    @abstractmethod
    def _encode(self, text: str) -> tuple[torch.Tensor, ...]:
        """Encode one prompt or negative prompt as the pipeline itself does, into what ``encodings`` names."""

    @abstractmethod
    def _most_tokens(self) -> int:
        """Return how many tokens of a prompt the pipeline reads, those of its start and its end counted."""

    @abstractmethod
    def _still(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode one frame of normalised latents, (items, channels, rows, columns), to (items, 3, height, width)."""

    @abstractmethod
    def _decoded(self, *, num_frames: int, **arguments: Any) -> torch.Tensor:
        """Call the pipeline with ``arguments``, which are diffusers' own, and decode.

        ``num_frames`` is 1 for pictures, whose pipelines do not know the word.
        Returns the shape (items, frames, 3, height, width), values from 0 to 1, not yet clamped.
        """

    @abstractmethod
    def _delivered(self, videos: list[Frames]) -> Sequence[Frames]:
        """Turn (frames, height, width, 3) arrays into the shape that the task promises."""
