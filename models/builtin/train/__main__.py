"""``python -m models.builtin.train --out DIR --minutes 80 [--resume]`` trains the built-in image model."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from models.builtin.language import vocabulary
from models.builtin.train.decoding import train_decoder
from models.builtin.train.diffusion import DiffusionTraining
from models.builtin.train.network import decoder, pipeline, tokenizer
from models.builtin.train.understanding import teach_words


def main() -> None:
    """Train for the given time and write the folder ``shapes`` in diffusers' layout under ``--out``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and results")
    parser.add_argument("--minutes", type=float, default=80.0, help="time for the diffusion model")
    parser.add_argument("--decoder-minutes", type=float, default=8.0, help="time for the decoder")
    parser.add_argument("--text-minutes", type=float, default=3.0, help="time for the text encoder before the pictures")
    parser.add_argument("--only", choices=("diffusion", "decoder"), help="train one of the two parts")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from what is in the folder; a decoder goes on for its time if it is alone",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    words = tokenizer(vocabulary())
    training = DiffusionTraining(arguments.out, words, seed=arguments.seed, seconds=arguments.minutes * 60)
    if arguments.resume:
        training.resume()
    decoder_file = arguments.out / "decoder.pt"
    vae = decoder()
    known = decoder_file.exists() and (arguments.resume or arguments.only == "diffusion")
    if known:
        vae.load_state_dict(torch.load(decoder_file, weights_only=True))
    if arguments.only == "decoder" or (arguments.only is None and not known):
        train_decoder(vae, seed=arguments.seed, seconds=arguments.decoder_minutes * 60, report=_report("decoder"))
        torch.save(vae.state_dict(), decoder_file)
    if arguments.only != "decoder":
        training.start(
            lambda network: teach_words(
                network, words, seed=arguments.seed, seconds=arguments.text_minutes * 60, report=_report("text")
            )
        )
        report = _report("diffusion")
        training.run(lambda progress: report(progress.step, progress.seconds, progress.loss))
    if decoder_file.exists():
        vae.load_state_dict(torch.load(decoder_file, weights_only=True))  # it may have been trained meanwhile
        pipeline(training.averaged, words, vae).to(torch.float16).save_pretrained(arguments.out / "shapes")


def _report(part: str) -> Callable[[int, float, float], None]:
    def report(step: int, seconds: float, loss: float) -> None:
        print(f"{part}: step {step} after {seconds:.0f} s, loss {loss:.4f}", flush=True)

    return report


if __name__ == "__main__":
    main()
