"""``python -m models.builtin.train --out DIR --minutes 64 [--resume]`` trains the built-in image model."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch

from models.builtin.language import vocabulary
from models.builtin.train.decoding import train_decoder
from models.builtin.train.diffusion import DiffusionTraining
from models.builtin.train.network import decoder, pipeline, tokenizer
from models.builtin.train.understanding import teach_words


def main() -> None:
    """Train for the given time and write the folder ``shapes`` in diffusers' layout under ``--out``."""
    parser = options(main.__doc__, minutes=64.0, decoder_minutes=12.0)
    parser.add_argument("--text-minutes", type=float, default=2.5, help="time for the text encoder before the pictures")
    parser.add_argument("--only", choices=("diffusion", "decoder"), help="train one of the two parts")
    arguments = begin(parser)
    words = tokenizer(vocabulary())
    training = DiffusionTraining(arguments.out, words, seed=arguments.seed, seconds=arguments.minutes * 60)
    if arguments.resume:
        training.resume()
    if arguments.only != "decoder":
        training.start(
            lambda network: teach_words(
                network, words, seed=arguments.seed, seconds=arguments.text_minutes * 60, report=partial(say, "text")
            )
        )
        training.run(lambda progress: say("diffusion", progress.step, progress.seconds, progress.loss))
    if arguments.only != "diffusion":
        vae, seconds = decoder(), arguments.decoder_minutes * 60
        train_decoder(vae, training.averaged, words, seed=arguments.seed, seconds=seconds, report=say)
        fresh = tokenizer(vocabulary())  # the other one would be saved with how it was used last
        pipeline(training.averaged, fresh, vae).to(torch.float16).save_pretrained(arguments.out / "shapes")


def options(what: str | None, *, minutes: float, decoder_minutes: float) -> argparse.ArgumentParser:
    """Return what can be said of any training, with how long each of its two networks is trained unless told."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and results, its own")
    parser.add_argument("--minutes", type=float, default=minutes, help="time for the network that denoises")
    parser.add_argument("--decoder-minutes", type=float, default=decoder_minutes, help="time for the decoder")
    parser.add_argument("--resume", action="store_true", help="go on from what is in the folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser


def begin(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read what was said, set torch's threads and make the folder."""
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    return arguments


def say(part: str, step: int, seconds: float, loss: float) -> None:
    """Print how far a part of the training has come."""
    print(f"{part}: step {step} after {seconds:.0f} s, loss {loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
