"""``python -m models.builtin.train.video --out DIR --minutes 60 [--resume]`` trains the built-in video model."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from models.builtin.language import COLOURS, KINDS
from models.builtin.train.__main__ import reporting
from models.builtin.train.video.clips import MOTIONS
from models.builtin.train.video.decoding import train_decoder
from models.builtin.train.video.flow import FlowTraining
from models.builtin.train.video.network import decoder, pipeline, tokenizer

WORDS = ("a", "an", "on", "background", "moving", *(motion.split()[-1] for motion in MOTIONS), *COLOURS, *KINDS)


def main() -> None:
    """Train for the given time and write the folder ``motion`` in diffusers' layout under ``--out``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and results")
    parser.add_argument("--minutes", type=float, default=60.0, help="time for the transformer")
    parser.add_argument("--decoder-minutes", type=float, default=12.0, help="time for the decoder")
    parser.add_argument("--resume", action="store_true", help="go on from what is in the folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    words = tokenizer(WORDS)
    training = FlowTraining(arguments.out, words, seed=arguments.seed, seconds=arguments.minutes * 60)
    if arguments.resume:
        training.resume()
    report = reporting("transformer")
    training.run(lambda progress: report(progress.step, progress.seconds, progress.loss))
    decoder_file = arguments.out / "decoder.pt"
    vae = decoder()
    if arguments.resume and decoder_file.exists():
        vae.load_state_dict(torch.load(decoder_file, weights_only=True))
    else:
        train_decoder(vae, seed=arguments.seed, seconds=arguments.decoder_minutes * 60, report=reporting("decoder"))
        torch.save(vae.state_dict(), decoder_file)
    pipeline(training.averaged, words, vae).to(torch.float16).save_pretrained(arguments.out / "motion")


if __name__ == "__main__":
    main()
