"""``python -m models.builtin.train.video --out DIR --minutes 22 [--resume]`` trains the built-in video model."""

from __future__ import annotations

import torch

from models.builtin.language import clip_vocabulary
from models.builtin.train.__main__ import begin, options, say
from models.builtin.train.video.decoding import train_decoder
from models.builtin.train.video.flow import FlowTraining
from models.builtin.train.video.network import decoder, pipeline, tokenizer


def main() -> None:
    """Train for the given time and write the folder ``motion`` in diffusers' layout under ``--out``."""
    arguments = begin(options(main.__doc__, minutes=22.0, decoder_minutes=6.5))
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
