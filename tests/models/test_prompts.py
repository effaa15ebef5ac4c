"""What models say of prompts that they cannot follow in full, and what they get instead."""

from __future__ import annotations

from dataclasses import replace

from models.catalog import BUILTIN
from models.diffusion import DiffusionModel
from models.prompts import MOST_WORDS, heard
from tests.models.calls import call, ignore, item


def test_the_builtin_model_gets_its_own_language_and_the_client_hears_what_it_left_out() -> None:
    """In the prompt and in the negative prompt, each named."""
    asked = item(prompt="a crimson disc riding a dragon", negative_prompt="blurry azure backdrop")
    told, warnings = heard(BUILTIN["shapes"], asked)
    assert (told.prompt, told.negative_prompt) == ("a red circle", "a shape on a cyan background")
    assert warnings == (
        "Model shapes does not know these words of the prompt, and ignored them: riding, dragon",
        "Model shapes does not know these words of the negative prompt, and ignored them: blurry",
    )


def test_the_builtin_video_model_has_a_language_of_its_own() -> None:
    """With motions, and without what its clips never show."""
    told, warnings = heard(BUILTIN["motion"], item(prompt="a tiny crimson disc flies to the right"))
    assert told.prompt == "a red circle moving right"
    assert warnings == ("Model motion does not know these words of the prompt, and ignored them: tiny",)


def test_other_models_get_prompts_as_they_are() -> None:
    """Nobody but the built-in models know so few words."""
    asked = item(prompt="a crimson disc riding a dragon")
    for spec in (BUILTIN["sdxl"], replace(BUILTIN["shapes"], builtin=None, path=None)):
        assert heard(spec, asked) == (asked, ())


def test_a_warning_stays_short_however_long_the_prompt() -> None:
    """It stands on the client's document, which has a limit."""
    words = [f"{'abcdefghij'[n // 10]}{'abcdefghij'[n % 10]}" + "xq" * 50 for n in range(100)]
    (warning,) = heard(BUILTIN["shapes"], item(prompt=" ".join(words)))[1]
    assert len(warning) < 1000
    assert warning.endswith(f" and {100 - MOST_WORDS} more")


def test_a_prompt_longer_than_the_encoder_reads_is_told(model: DiffusionModel) -> None:
    """What follows has no effect; the item that it is about is named by its place."""
    told: list[tuple[int, str]] = []
    asked = call(item(), item(prompt="red " * 600), frames=1 if model.spec.name == "shapes" else 5)
    model.generate(replace(asked, on_warning=lambda index, what: told.append((index, what))), ignore)
    ((index, what),) = told
    assert index == 1
    assert what.startswith("The prompt has ")
    assert f"model {model.spec.name} reads the first" in what
