"""The benchmark of a card, on a CPU with tiny models: the same code, its figures without meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLWan, UNet2DConditionModel, WanTransformer3DModel
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import models.speed
from benchmarks import device, device_models

MILLION = 1e6


@pytest.fixture
def process_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks run as they are, not even traced: compiling is tested with the models. What is global is put back."""
    for name in ("HF_ENABLE_PARALLEL_LOADING", "TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_FX_GRAPH_CACHE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(models.speed, "BACKEND", "eager")
    torch.compiler.set_stance("force_eager")
    before, _ = _AttentionBackendRegistry.get_active_backend()
    yield
    _AttentionBackendRegistry.set_active_backend(before)
    torch.compiler.set_stance("default")


@pytest.mark.usefixtures("process_as_before")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_side_is_measured_or_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line and an entry for each; what needs a card says that it does."""
    monkeypatch.setattr(device, "MOST_ROUNDS", 1)
    device.main(["--tiny", "--seconds", "200", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["card"] == "no card"
    sides = {(entry["what"], entry["side"]): entry for entry in found["figures"]}
    assert {side for what, side in sides if what == "sdxl"} == {
        "plain",
        "ours",
        "ours, 2 at once",
        *device.SETTINGS,
        "compiled, 2 at once",
    }
    for (_, side), entry in sides.items():
        if side == "attention cudnn":
            assert "cannot be had on cpu" in entry["trouble"]
        else:
            assert entry["rounds"] == 1
            assert entry["seconds"] > 0
    printed = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("device sdxl ", "device wan ")) for line in printed) == len(sides)


@pytest.mark.usefixtures("process_as_before")
def test_what_the_time_does_not_reach_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made up."""
    device.main(["--tiny", "--what", "sdxl", "--seconds", "0"])
    assert "device sdxl plain: not reached in the time given" in capsys.readouterr().out


@pytest.mark.usefixtures("process_as_before")
@pytest.mark.filterwarnings("ignore:`upcast_vae` is deprecated:FutureWarning")  # the pipeline's own call
def test_what_is_made_for_a_card_runs_in_its_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The makers of the full-size models, made narrow and shallow: half precision, the decoder in float32."""
    small = {"num_hidden_layers": 2}
    monkeypatch.setattr(device_models, "CLIP_L", device_models.CLIP_L | small)
    monkeypatch.setattr(device_models, "CLIP_BIG_G", device_models.CLIP_BIG_G | small)
    unet = {"block_out_channels": (32, 64, 64), "transformer_layers_per_block": 1, "attention_head_dim": (1, 2, 2)}
    monkeypatch.setattr(device_models, "SDXL_UNET", device_models.SDXL_UNET | unet)
    monkeypatch.setattr(device_models, "SDXL_VAE", device_models.SDXL_VAE | {"block_out_channels": (32,) * 4})
    wan = {"num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 64, "num_layers": 1}
    monkeypatch.setattr(device_models, "WAN_TRANSFORMER", wan)
    text = {"d_ff": 64, "num_heads": 2, "vocab_size": 512}
    monkeypatch.setattr(device_models, "WAN_TEXT", device_models.WAN_TEXT | text)
    monkeypatch.setattr(device_models, "AutoencoderKLWan", lambda: AutoencoderKLWan(base_dim=8))
    cpu = torch.device("cpu")
    full = device.works(tiny=False, steps=1)
    for what, little in device.works(tiny=True, steps=1).items():
        work = replace(
            full[what], call=replace(little.call, steps=1, width=64, height=64, frames=5 if what == "wan" else 1)
        )
        pipeline = work.build(cpu)
        assert getattr(pipeline, work.model.network).dtype in {torch.float16, torch.bfloat16}
        assert pipeline.vae.dtype is torch.float32
        model = work.model(spec=work.spec, pipeline=pipeline, device=cpu)
        for side in (device.plain(work, cpu), device.ours("ours", work, model, 0, items=2)):
            side.measure(cpu)
            assert side.trouble == ""
            assert len(side.seconds) == 1


def test_the_models_have_their_published_sizes() -> None:
    """Parameters, counted on the device that holds none."""
    with torch.device("meta"):
        sizes = {
            "unet": UNet2DConditionModel(**device_models.SDXL_UNET),
            "vae": AutoencoderKL(**device_models.SDXL_VAE),
            "clip": CLIPTextModel(CLIPTextConfig(**device_models.CLIP_L)),
            "clip big": CLIPTextModelWithProjection(CLIPTextConfig(**device_models.CLIP_BIG_G)),
            "wan": WanTransformer3DModel(**device_models.WAN_TRANSFORMER),
            "wan vae": AutoencoderKLWan(),
        }
    counted = {name: sum(part.numel() for part in model.parameters()) / MILLION for name, model in sizes.items()}
    assert counted == pytest.approx(
        {"unet": 2567.46, "vae": 83.65, "clip": 123.06, "clip big": 694.66, "wan": 1418.99, "wan vae": 126.89}, rel=1e-4
    )
