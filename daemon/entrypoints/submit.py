"""``easeld submit``: queue a job as the shim would, and wait for it where asked."""

from __future__ import annotations

import getpass
import secrets
import sys
from typing import Annotated, Any

import typer

from daemon.core.job import Document, JobId, Status
from daemon.core.ports import Store
from daemon.core.request import Submission
from daemon.entrypoints import submitting
from daemon.entrypoints.opening import client_store
from daemon.entrypoints.present import addresses, as_json, plain, stage, warnings
from daemon.entrypoints.waiting import look_every, progress_bars, wait_for

DEFAULT_FRAMES = 16


def queue(store: Store, fields: dict[str, Any], *, max_prompt_characters: int) -> Document:
    """Queue the request in a call's fields, exactly as the shim does; the document as it then is.

    Raises:
        Rejected: with the contract's message.
    """
    call = Submission.parse({"use_cloud_storage": True, **fields}, max_prompt_characters=max_prompt_characters)
    return store.read(submitting.submit(store, call))


def submit(  # noqa: PLR0917 - every option has a name
    prompt: Annotated[str, typer.Argument(help="What to make.")],
    user: Annotated[str | None, typer.Option(help="The user's id; by default the name you are logged in with.")] = None,
    file: Annotated[str | None, typer.Option("--id", help="The job's id (file_uid); by default a new one.")] = None,
    video: Annotated[bool, typer.Option("--video", help=f"Make a video; {DEFAULT_FRAMES} frames by default.")] = False,
    model: Annotated[str | None, typer.Option(help="A model of `easeld models`; by default the task's first.")] = None,
    negative: Annotated[str | None, typer.Option("--negative-prompt", help="What it should not show.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed makes the same picture; by default random.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", "--num-inference-steps", help="Denoising steps, 10 to 50.")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Of an image, 256 to 1024 pixels.")] = None,
    height: Annotated[int | None, typer.Option(help="Of an image, 256 to 1024 pixels.")] = None,
    images: Annotated[
        int | None, typer.Option("--images", "--num-images-per-prompt", help="How many images, 1 to 4.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", "--guidance-scale", help="How closely an image follows, 1 to 20.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", "--num-frames", help="Of a video, 16 to 81; makes it a video.")
    ] = None,
    fps: Annotated[int | None, typer.Option(help="Frames per second of a video, 6 to 15.")] = None,
    video_width: Annotated[int | None, typer.Option(help="Of a video, in pixels.")] = None,
    video_height: Annotated[int | None, typer.Option(help="Of a video, in pixels.")] = None,
    video_guidance: Annotated[
        float | None,
        typer.Option("--video-guidance", "--video-guidance-scale", help="How closely a video follows."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended; exit status 1 if it failed.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the document as JSON and nothing else.")] = False,
) -> None:
    """Queue an image or a video; a daemon makes it."""
    fields = {
        "prompt": prompt,
        "user_id": _me() if user is None else user,
        "file_uid": secrets.token_hex(8) if file is None else file,
        "model": model,
        "negative_prompt": negative,
        "seed": seed,
        "num_inference_steps": steps,
        "width": width,
        "height": height,
        "num_images_per_prompt": images,
        "guidance_scale": guidance,
        "num_frames": DEFAULT_FRAMES if video and frames is None else frames,
        "fps": fps,
        "video_width": video_width,
        "video_height": video_height,
        "video_guidance_scale": video_guidance,
    }
    with client_store() as (settings, store):
        document = queue(store, fields, max_prompt_characters=settings.max_prompt)
        if wait:
            document = _wait(store, document.id, every=look_every(settings))
    if json:
        print(as_json(document.fields))
    else:
        _tell(document)
    if wait and (document.fields or {}).get("status") != Status.COMPLETED:
        raise typer.Exit(1)


def _wait(store: Store, job: JobId, *, every: float) -> Document:
    with progress_bars([job]) as look:
        return wait_for(store, [job], every=every, look=look)[0]


def _tell(document: Document) -> None:
    name = document.id.path.removeprefix("generations/")
    print(f"{plain(name)}: {stage(document.fields)}")
    for address in addresses(document.fields):
        print(plain(address))
    for text in warnings(document.fields):
        print(f"note: {text}", file=sys.stderr)


def _me() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user often has no name
        return "local"
