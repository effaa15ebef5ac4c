"""``python -m models.builtin.train.video --out DIR --minutes 22 [--resume]`` trains the built-in video model."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from models.builtin.language import clip_vocabulary
from models.builtin.train.__main__ import say
from models.builtin.train.video.decoding import train_decoder
from models.builtin.train.video.flow import FlowTraining
from models.builtin.train.video.network import decoder, pipeline, tokenizer


def main() -> None:
    """Train for the given time and write the folder ``motion`` in diffusers' layout under ``--out``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and results")
    parser.add_argument("--minutes", type=float, default=22.0, help="time for the transformer")
    parser.add_argument("--decoder-minutes", type=float, default=6.5, help="time for the decoder")
    parser.add_argument("--resume", action="store_true", help="go on from what is in the folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    words = tokenizer(clip_vocabulary())
    training = FlowTraining(arguments.out, words, seed=arguments.seed, seconds=arguments.minutes * 60)
    if arguments.resume:
        training.resume()
    training.run(lambda progress: say("transformer", progress.step, progress.seconds, progress.loss))
    vae = decoder()
    train_decoder(vae, seed=arguments.seed, seconds=arguments.decoder_minutes * 60, report=say)
    fresh = tokenizer(clip_vocabulary())  # the other one would be saved with how it was used last
    pipeline(training.averaged, fresh, vae).to(torch.float16).save_pretrained(arguments.out / "motion")


if __name__ == "__main__":
    main()
