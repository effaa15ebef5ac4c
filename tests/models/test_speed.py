"""Settings of speed: they reach the pipeline, and a seed still gives the same picture."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch._dynamo.testing import CompileCounter

import models.attention
import models.speed
from models.diffusion import DiffusionModel
from models.encoded import Encoded
from models.errors import DeviceUnfit
from models.keeper import Keeper
from models.spec import Attention, Call, Compile, ModelSpec, Speed
from models.speed import apply
from tests.models.calls import call, ignore, item

MIXED = (
    item(1, 7.5),
    item(2, 3.0, "a blue house", "dark"),
    item(3, 7.5, "a blue house"),
    item(4, 1.0, "a red car", "x"),
)

Fast = Callable[..., DiffusionModel]


@pytest.fixture
def fast(cache_dir: Path, random_spec: Callable[[str], ModelSpec]) -> Fast:
    """Load a model with settings of speed."""

    def loaded(name: str, told: list[str] | None = None, **settings: Any) -> DiffusionModel:
        keeper = Keeper(cache_dir=cache_dir, device="cpu", speed=Speed(**settings))
        resident = keeper.resident(random_spec(name), (told if told is not None else []).append)
        assert isinstance(resident, DiffusionModel)
        return resident

    return loaded


@pytest.fixture
def attention_as_before() -> Iterator[None]:
    """Diffusers keeps the last choice for the whole process."""
    before, _ = _AttentionBackendRegistry.get_active_backend()
    yield
    _AttentionBackendRegistry.set_active_backend(before)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounter]:
    """A compiler that counts, and runs what it is given as it is."""
    torch._dynamo.reset()
    counter = CompileCounter()
    monkeypatch.setattr(models.speed, "BACKEND", counter)
    yield counter
    torch._dynamo.reset()


def differing(one: DiffusionModel, other: DiffusionModel, of: Call) -> int:
    """The most levels by which two models' pictures differ."""
    pairs = zip(one.generate(of, ignore), other.generate(of, ignore), strict=True)
    return max(int(np.abs(first.astype(int) - second).max()) for first, second in pairs)


def encoders(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts the model's first encoder has got in each of its calls."""
    sizes: list[int] = []
    encoder = model._pipeline.text_encoder
    forward = encoder.forward

    def counted(tokens: torch.Tensor, *arguments: Any, **keywords: Any) -> Any:
        sizes.append(len(tokens))
        return forward(tokens, *arguments, **keywords)

    monkeypatch.setattr(encoder, "forward", counted)
    return sizes


@pytest.mark.parametrize("name", ["shapes", "motion"])
def test_kept_prompts_cost_no_encoding_and_change_no_bit(
    fast: Fast, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, in calls of mixed prompts, and in calls that are filled: as a model that keeps nothing."""
    keeps, forgets = fast(name), fast(name, prompts_kept=0)
    sizes = encoders(keeps, monkeypatch)
    calls = [call(*MIXED), call(MIXED[1]), call(MIXED[0], MIXED[0], MIXED[0]), call(*reversed(MIXED))]
    for asked in calls:
        assert differing(keeps, forgets, asked) == 0
    assert sizes == [1] * 5  # two prompts and three negative ones, one of which is empty


def test_prompts_are_kept_up_to_a_bound_and_the_least_recently_used_leaves() -> None:
    """Each text is encoded alone; what is used again stays."""
    encoded: list[str] = []

    def encode(text: str) -> tuple[torch.Tensor, ...]:
        encoded.append(text)
        return torch.full((1, 2), float(len(text))), torch.full((1, 1), 1.0)

    texts, here = Encoded(encode, most=2), torch.device("cpu")
    states, pooled = texts.of(["a", "bb", "a"], here)
    assert states.tolist() == [[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]]
    assert pooled.shape == (3, 1)
    texts.of(["a"], here)
    texts.of(["ccc"], here)  # "bb" leaves
    texts.of(["a"], here)
    texts.of(["bb"], here)
    assert encoded == ["a", "bb", "ccc", "bb"]


@pytest.mark.usefixtures("attention_as_before")
@pytest.mark.parametrize("attention", [Attention.NATIVE, Attention.MATH, Attention.TORCH_FLASH])
@pytest.mark.parametrize("name", ["shapes", "motion"])
def test_attention_is_computed_as_was_chosen(
    fast: Fast, name: str, attention: Attention, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By every one of the network's processors, to within one level; SDXL's own have no such choice."""
    plain, chosen = fast(name), fast(name, attention=attention)
    used: set[str] = set()
    kernel = _AttentionBackendRegistry._backends[AttentionBackendName(attention.value)]

    def counted(**keywords: Any) -> Any:
        used.add(attention.value)
        return kernel(**keywords)

    monkeypatch.setitem(_AttentionBackendRegistry._backends, AttentionBackendName(attention.value), counted)
    assert differing(plain, chosen, call(*MIXED[:2])) <= 1
    assert used == {attention.value}
    network = getattr(chosen._pipeline, chosen.network)
    processors = [module.processor for module in network.modules() if hasattr(module, "processor")]
    assert {processor._attention_backend for processor in processors} == {attention.value}


@pytest.mark.usefixtures("attention_as_before")
@pytest.mark.parametrize("attention", [Attention.FLASH, Attention.SAGE, Attention.XFORMERS])
@pytest.mark.parametrize("name", ["shapes", "motion"])
def test_attention_that_cannot_be_had_is_told_while_loading(fast: Fast, name: str, attention: Attention) -> None:
    """With what to install."""
    with pytest.raises(DeviceUnfit, match=rf"Attention '{attention}' cannot be had on cpu: .*[Pp]lease install"):
        fast(name, attention=attention)


def test_attention_is_named_as_diffusers_names_it() -> None:
    """All but the default, which is no name of theirs."""
    theirs = {backend.value for backend in AttentionBackendName}
    assert {ours.value for ours in Attention} - theirs == {"default"}


def test_channels_last_are_laid_out_so_and_change_no_more_than_one_level(fast: Fast) -> None:
    """The UNet and the decoder."""
    plain, last = fast("shapes"), fast("shapes", channels_last=True)
    for model, expected in ((plain, False), (last, True)):
        weights = [model._pipeline.unet.conv_in.weight, model._pipeline.vae.decoder.conv_in.weight]
        assert {weight.is_contiguous(memory_format=torch.channels_last) for weight in weights} == {expected}
    assert differing(plain, last, call(*MIXED)) <= 1


@pytest.mark.parametrize(
    ("device", "wanted", "expected"), [("cuda", None, True), ("cuda", False, False), ("cpu", None, False)]
)
def test_channels_come_last_on_cuda_unless_told_otherwise(device: str, wanted: bool | None, expected: bool) -> None:
    """A CPU keeps what it had."""
    convolution = torch.nn.Conv2d(3, 4, 3)
    apply(Speed(channels_last=wanted), network=None, pictures=[convolution], device=torch.device(device))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last) is expected


@pytest.mark.parametrize("name", ["shapes", "motion"])
def test_the_blocks_are_compiled_before_the_first_job_and_not_anew_for_its_size(
    fast: Fast, counter: CompileCounter, name: str
) -> None:
    """The warm-up has compiled them for every size and batch with guidance, and the picture is the same."""
    told: list[str] = []
    plain, compiled = fast(name), fast(name, told, compile=Compile.REGIONAL)
    assert "compiling" in told[-1]
    assert (warm := counter.frame_count) > 0
    frames = 1 if name == "shapes" else 5
    for asked in (call(MIXED[0], frames=frames), call(*MIXED[:3], frames=frames)):
        assert differing(plain, compiled, asked) <= 1
    assert counter.frame_count == warm


def test_what_cannot_be_compiled_is_told_while_loading(fast: Fast, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the setting that helps."""

    def broken(*_: object) -> None:
        raise RuntimeError("no C++ compiler")

    torch._dynamo.reset()
    monkeypatch.setattr(models.speed, "BACKEND", broken)
    with pytest.raises(DeviceUnfit, match=r"shapes cannot be compiled here, so set compile to off: no C"):
        fast("shapes", compile=Compile.REGIONAL)
    torch._dynamo.reset()


def test_a_step_that_changes_little_reuses_the_blocks_of_the_one_before(fast: Fast) -> None:
    """The first block always computes; how often the others do is the setting's, and so is the video."""
    video = call(MIXED[0], steps=8, frames=5)
    plain, never, often = (fast("motion", step_cache=share) for share in (0.0, 1e-9, 0.9))
    first, last = (_counted(often._pipeline.transformer.blocks[index]) for index in (0, 1))
    assert differing(plain, never, video) == 0
    assert differing(plain, often, video) > 1
    assert len(first) == 2 * 8  # with and without the prompt
    assert 2 <= len(last) < 2 * 8


def test_what_a_call_keeps_from_step_to_step_is_no_other_s(fast: Fast) -> None:
    """Neither of one that came through nor of one that was stopped."""
    cached, other = (fast("motion", step_cache=0.9) for _ in range(2))
    video = call(MIXED[1], steps=6, frames=5)

    def stop(step: int, _: int) -> None:
        if step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        cached.generate(call(MIXED[0], steps=6, frames=5), stop)
    assert differing(cached, other, video) == 0
    assert differing(cached, other, video) == 0


def test_a_step_cache_is_for_videos_only(fast: Fast) -> None:
    """SDXL's network has none: its pictures stay the same bits."""
    assert differing(fast("shapes"), fast("shapes", step_cache=0.9), call(*MIXED)) == 0


def test_where_steps_are_cached_nothing_is_compiled(fast: Fast, counter: CompileCounter) -> None:
    """Torch would compile each block by itself, and give up after eight of them."""
    video = call(MIXED[0], steps=8, frames=5)
    told: list[str] = []
    cached, both = fast("motion", step_cache=0.9), fast("motion", told, step_cache=0.9, compile=Compile.REGIONAL)
    assert not [what for what in told if "compiling" in what]
    assert differing(cached, both, video) == 0
    assert counter.frame_count == 0


class Stopped(Exception):
    """What a test stops a call by."""


def _counted(block: Any) -> list[None]:
    """A list that grows by one whenever a block of the transformer computes."""
    calls: list[None] = []
    block.attn1.register_forward_pre_hook(lambda *_: calls.append(None))
    return calls


CHILD = """
import sys
from pathlib import Path
from models.spec import Compile, Speed
from models.speed import BACKEND, prepare
prepare(Speed(compile=Compile.REGIONAL, parallel_loading=sys.argv[2] == "yes"), cache_dir=Path(sys.argv[1]))
import torch
from diffusers.utils.constants import HF_ENABLE_PARALLEL_LOADING
from torch._dynamo.utils import counters
if sys.argv[3] == "compile":
    torch.compile(lambda numbers: numbers.sin() * 2, backend=BACKEND, dynamic=True)(torch.ones(8))
found = counters["inductor"]
print(HF_ENABLE_PARALLEL_LOADING, found["fxgraph_cache_hit"], found["fxgraph_cache_miss"])
"""


def child(cache_dir: Path, *, parallel: str = "yes", then: str = "nothing") -> list[str]:
    """In a process of its own: whether weights are loaded in parallel, hits and misses of the compiler's cache."""
    command = [sys.executable, "-c", CHILD, str(cache_dir), parallel, then]
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("HF_ENABLE", "TORCHINDUCTOR"))}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=ours).stdout.split()


@pytest.mark.usefixtures("uncounted")
def test_weights_are_not_loaded_in_parallel_where_told_so(cache_dir: Path) -> None:
    """Diffusers reads its environment when it is imported."""
    assert child(cache_dir, parallel="no")[0] == "False"


@pytest.mark.usefixtures("uncounted")
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_was_compiled_is_found_after_a_restart(tmp_path: Path) -> None:
    """Under the cache folder, with torch's own compiler; and weights are loaded in parallel by default."""
    assert child(tmp_path, then="compile") == ["True", "0", "1"]
    assert any((tmp_path / "compiled").rglob("*"))
    assert child(tmp_path, then="compile") == ["True", "1", "0"]
