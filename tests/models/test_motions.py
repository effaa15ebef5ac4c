"""What becomes of a free prompt before the built-in video model sees it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.builtin.language import clip_vocabulary
from models.builtin.motions import normalise_clip


@pytest.mark.parametrize(
    ("prompt", "understood"),
    [
        ("a red circle moving right on a blue background", "a red circle moving right on a blue background"),
        ("A crimson disc that flies from left to right", "a red circle moving right"),
        ("yellow moon moves right to left on a dark blue sky", "a yellow circle moving left on a blue background"),
        ("a heart that grows, on black", "a heart growing on a black background"),
        ("pink heart getting smaller", "a pink heart shrinking"),
        ("a green box rotating around", "a green square spinning"),
        ("blue ball falling down", "a blue circle moving down"),
        ("a ring goes up on a white background", "a ring moving up on a white background"),
        ("red star, moving to the top", "a red star moving up"),
        ("something shrinks", "a shape shrinking"),
        ("a white star moves slowly over to the left", "a white star moving left"),
        ("a left-moving heart", "a heart moving left"),
        ("red disc, right-to-left", "a red circle moving left"),
        ("a ball comes in from the left", "a circle moving right"),
        ("spin a yellow triangle", "a yellow triangle spinning"),
        ("", ""),
    ],
)
def test_a_prompt_is_brought_into_the_language_of_clips(prompt: str, understood: str) -> None:
    """Motions in many words come down to one of seven, and the rest is read as a picture's prompt is."""
    result = normalise_clip(prompt)
    assert result.prompt == understood
    assert result.ignored == ()


def test_what_only_pictures_know_is_left_out_and_named() -> None:
    """Clips are of one shape, whose size and place the motion decides."""
    result = normalise_clip("two tiny red stars rising beside a dragon and a blue ring on the left")
    assert result.prompt == "a red star moving up"
    assert result.ignored == ("two", "tiny", "dragon", "blue", "ring", "left")


@pytest.mark.parametrize("prompt", ["a heart turning blue", "a triangle pointing upward", "a star on the left"])
def test_what_is_no_motion_is_not_taken_for_one(prompt: str) -> None:
    """It is left out, and the client hears of it."""
    result = normalise_clip(prompt)
    assert result.prompt in ("a blue heart", "a triangle", "a star")
    assert result.ignored in (("turning",), ("pointing", "upward"), ("left",))


def test_a_motion_without_a_direction_is_named() -> None:
    """The model has no such motion."""
    assert normalise_clip("a white triangle drifts").prompt == "a white triangle"
    assert normalise_clip("a white triangle drifts").ignored == ("drifts",)


def test_a_prompt_of_unknown_words_becomes_an_empty_clip_prompt() -> None:
    """The model then draws whatever the seed says."""
    assert normalise_clip("a cat").prompt == ""
    assert normalise_clip("a cat").ignored == ("cat",)


@given(st.lists(st.sampled_from([*clip_vocabulary(), "left to right", "flies", "tiny", "cat", ",", "grows"])))
def test_any_words_of_a_clip_end_in_its_language(words: list[str]) -> None:
    """Whatever is said, and what comes out of it stays as it is."""
    prompt = normalise_clip(" ".join(words)).prompt
    assert set(prompt.split()) <= set(clip_vocabulary())
    assert normalise_clip(prompt).prompt == prompt


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    """Whatever is said, what comes out is in the language."""
    assert set(normalise_clip(text).prompt.split()) <= set(clip_vocabulary())
