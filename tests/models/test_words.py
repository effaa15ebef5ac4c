"""What becomes of a free prompt before the built-in image model sees it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.builtin.language import vocabulary
from models.builtin.words import normalise


@pytest.mark.parametrize(
    ("prompt", "understood"),
    [
        ("a red circle on a white background", "a red circle on a white background"),
        ("Tiny crimson discs, 2!", "two small red circles"),
        ("a photo of a big blue box above an emerald star, snowy backdrop", None),
        ("red circle on white", "a red circle on a white background"),
        ("something red on blue", "a red shape on a blue background"),
        ("the background is blue and the star is red", "a red star on a blue background"),
        ("on the left, a green ring", "a green ring on the left"),
        ("a yellow star to the left of a pink heart", "a yellow star left of a pink heart"),
        ("a red circle on the left and a blue square on the right", "a red circle left of a blue square"),
        ("a circle on top of a square", "a circle above a square"),
        ("three small yelow hearts on green backgrund", "three small yellow hearts on a green background"),
        ("green triangles", "two green triangles"),
        ("light blue circle", "a cyan circle"),
    ],
)
def test_a_prompt_is_brought_into_the_training_language(prompt: str, understood: str | None) -> None:
    """Synonyms, misspellings, order and filler words all come down to the form that the model was trained on."""
    expected = understood or "a large blue square above a green star on a white background"
    assert normalise(prompt).prompt == expected
    assert normalise(prompt).ignored == ()


def test_an_unknown_word_is_left_out_and_named() -> None:
    """A client can tell its user which words had no effect."""
    result = normalise("a dragon riding a purple traingle")
    assert result.prompt == "a purple triangle"
    assert result.ignored == ("dragon", "riding")


def test_a_prompt_of_unknown_words_becomes_empty() -> None:
    """The model then draws whatever the seed says."""
    assert normalise("hello 世界").prompt == ""
    assert normalise("hello 世界").ignored == ("hello", "世界")


def test_a_third_thing_is_left_out_and_named() -> None:
    """The language has room for two things apart."""
    result = normalise("a red circle and a blue square and a green star")
    assert result.prompt == "a red circle and a blue square"
    assert result.ignored == ("green", "star")


def test_a_count_among_two_things_is_left_out_and_named() -> None:
    """The language counts things only when they are alike."""
    assert normalise("two red circles and a blue square").ignored == ("two",)


def test_a_normalised_prompt_stays_as_it_is() -> None:
    """Normalising twice is normalising once."""
    for prompt in ("two small red circles at the top on a grey background", "an orange ring below a black heart"):
        assert normalise(prompt).prompt == prompt


@given(st.text(max_size=200))
def test_any_text_comes_out_in_words_of_the_training_language(prompt: str) -> None:
    """No input raises, and the model meets no word that it has not met in training."""
    assert set(re.findall(r"\w+", normalise(prompt).prompt)) <= set(vocabulary())


@given(st.lists(st.sampled_from([*vocabulary(), "on", "big", "dragon", ",", "next to"]), max_size=12))
def test_any_order_of_known_words_is_read(words: list[str]) -> None:
    """Whatever is understood is understood the same again."""
    once = normalise(" ".join(words)).prompt
    assert normalise(once).prompt == once
