"""``python -m models.builtin.train.report --run DIR --out docs/builtin``: loss curves, samples, four pictures."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw

from models.builtin.check import CLIP_GUIDANCE, draw
from models.builtin.language import FRAMES
from models.catalog import BUILTIN
from models.spec import Item, ModelSpec

PROMPTS = (
    ("a red circle on a white background", ""),
    ("a large yellow star on a blue background", ""),
    ("a small pink heart on a black background", ""),
    ("a green ring on an orange background", ""),
    ("two purple triangles on a cyan background", ""),
    ("three red hearts on a white background", ""),
    ("a blue square on the left on a yellow background", ""),
    ("a white star at the top on a green background", ""),
    ("a red circle above a blue square on a white background", ""),
    ("a yellow star left of a pink heart on a grey background", ""),
    ("an orange ring and a brown triangle on a white background", ""),
    ("a black square on a pink background", ""),
    ("a star", ""),
    ("a star", "white background"),
    ("a circle on a white background", ""),
    ("a circle on a white background", "red circle"),
)
ALONE = {"circle": 0, "star": 1, "triangles": 4, "pair": 8}
"""Pictures that get a file of their own, for the README: its name, and which of the prompts."""
CLIPS = (
    "a red circle moving right on a white background",
    "a white heart moving left on a purple background",
    "an orange triangle moving up on a blue background",
    "a green ring moving down on a yellow background",
    "a pink star growing on a black background",
    "a blue square shrinking on a cyan background",
    "a yellow star spinning on a green background",
    "a white triangle spinning on a red background",
)
FPS = 8
CLIP_SIDE = 144  # pixels
SIDE = 256  # pixels
SHADES = 256  # of which a file consists: enough for flat colours and captions, and it makes files small
COLUMNS = 4
CAPTION = 30  # pixels
WIDTH, HEIGHT, MARGIN = 720, 300, 48  # of the loss curve, in pixels


def main() -> None:
    """Draw them into the folder ``--out``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--run", type=Path, help="folder that the training of pictures wrote")
    parser.add_argument("--clips-run", type=Path, help="folder that the training of clips wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shipped", action="store_true", help="take samples from the shipped weights")
    arguments = parser.parse_args()
    if arguments.run is None and arguments.clips_run is None:
        parser.error("nothing to report on: --run or --clips-run")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.run is not None:
        _curve_of(arguments.run, arguments.out / "loss.svg")
        _show_pictures(_spec("shapes", None if arguments.shipped else arguments.run), arguments.out)
    if arguments.clips_run is not None:
        _curve_of(arguments.clips_run, arguments.out / "clips-loss.svg")
        _show_clips(_spec("motion", None if arguments.shipped else arguments.clips_run), arguments.out)


def _spec(name: str, run: Path | None) -> ModelSpec:
    return BUILTIN[name] if run is None else replace(BUILTIN[name], builtin=None, path=run / name)


def _curve_of(run: Path, svg: Path) -> None:
    lines = [json.loads(line) for line in (run / "loss.jsonl").read_text().splitlines()]
    svg.write_text(_curve([(line["step"], line["loss"]) for line in lines]))


def _show_pictures(spec: ModelSpec, out: Path) -> None:
    items = [
        Item(prompt=prompt, negative_prompt=negative, seed=seed, guidance_scale=7.5)
        for seed, (prompt, negative) in enumerate(PROMPTS)
    ]
    pictures = [Image.fromarray(picture) for picture in draw(spec, items, side=SIDE, steps=20)]
    _save(_grid(pictures), out / "samples.png")
    for name, index in ALONE.items():
        _save(pictures[index], out / f"{name}.png")


def _show_clips(spec: ModelSpec, out: Path) -> None:
    """Show all clips at once, in two rows, as an animation."""
    items = [
        Item(prompt=prompt, negative_prompt="", seed=seed, guidance_scale=CLIP_GUIDANCE)
        for seed, prompt in enumerate(CLIPS)
    ]
    clips = draw(spec, items, side=SIDE, steps=20, frames=FRAMES)
    shown = []
    for frame in range(FRAMES):
        sheet = Image.new("RGB", (COLUMNS * CLIP_SIDE, len(clips) // COLUMNS * CLIP_SIDE))
        for index, clip in enumerate(clips):
            small = Image.fromarray(clip[frame]).resize((CLIP_SIDE, CLIP_SIDE), Image.Resampling.BOX)
            sheet.paste(small, (index % COLUMNS * CLIP_SIDE, index // COLUMNS * CLIP_SIDE))
        shown.append(sheet)
    # Not as GIF: its palette has no room for the colour of what is small.
    shown[0].save(out / "clips.webp", save_all=True, append_images=shown[1:], duration=1000 // FPS, loop=0, quality=80)


def _save(picture: Image.Image, path: Path) -> None:
    picture.quantize(SHADES, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)


def _curve(points: list[tuple[int, float]]) -> str:
    """Return the loss over the steps as SVG."""
    last, highest = points[-1][0], max(loss for _, loss in points)

    def place(step: float, loss: float) -> str:
        x = MARGIN + (WIDTH - 2 * MARGIN) * step / last
        return f"{x:.1f},{HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * loss / highest:.1f}"

    line = " ".join(place(step, loss) for step, loss in points)
    text = 'font-family="sans-serif" font-size="12" fill="#444"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<polyline points="{place(0, highest)} {place(0, 0)} {place(last, 0)}" fill="none" stroke="#999"/>'
        f'<polyline points="{line}" fill="none" stroke="#2b55d7" stroke-width="1.5"/>'
        f'<text x="{MARGIN}" y="{MARGIN - 12}" {text}>loss, mean of about a hundred steps; top {highest:.2f}, '
        f"end {points[-1][1]:.3f}</text>"
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - MARGIN + 20}" text-anchor="end" {text}>{last} steps</text></svg>\n'
    )


def _grid(pictures: list[Image.Image]) -> Image.Image:
    """Return the pictures in rows, each under its prompt."""
    rows = -(-len(pictures) // COLUMNS)
    grid = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + CAPTION)), "white")
    pencil = ImageDraw.Draw(grid)
    for index, (picture, (prompt, negative)) in enumerate(zip(pictures, PROMPTS, strict=True)):
        x, y = index % COLUMNS * SIDE, index // COLUMNS * (SIDE + CAPTION)
        caption = f"{prompt}\nnot: {negative}" if negative else prompt.replace(" on a", "\non a", 1)
        pencil.multiline_text((x + 4, y + 2), caption, fill="black", spacing=1)
        grid.paste(picture, (x, y + CAPTION))
    return grid


if __name__ == "__main__":
    main()
