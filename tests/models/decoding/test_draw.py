"""Tokens are drawn by the inverse of the cumulated probabilities, likeliest first."""

from __future__ import annotations

import pytest
import torch

from align.models.decoding.draw import NUM_LIKELIEST, draw_tokens

PROBS = [0.1, 0.4, 0.2, 0.3]
"""Likeliest first: token 1 up to 0.4, token 3 up to 0.7, token 2 up to 0.9, token 0 up to 1."""


def draw(uniform: float, temperature: float = 1.0, top_p: float = 1.0) -> int:
    return draw_tokens(torch.tensor([PROBS]).log(), [temperature], [top_p], [uniform])[0]


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 1), (0.39, 1), (0.41, 3), (0.71, 2), (0.91, 0), (0.9999999, 0)])
def test_uniform_number_picks_the_token_at_its_cumulated_probability(uniform, token) -> None:
    assert draw(uniform) == token


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 1), (0.56, 1), (0.58, 3), (0.9999999, 3)])
def test_top_p_keeps_the_token_that_crosses_it_and_shares_out_the_rest(uniform, token) -> None:
    assert draw(uniform, top_p=0.6) == token


def test_temperature_zero_takes_the_likeliest() -> None:
    assert draw(0.99, temperature=0.0) == 1


def test_low_temperature_sharpens() -> None:
    assert draw(0.9, temperature=0.1) == 1


def test_rows_of_different_sampling_do_not_disturb_each_other() -> None:
    logits = torch.tensor([PROBS] * 3).log()
    together = draw_tokens(logits, [1.0, 0.0, 1.0], [1.0, 1.0, 0.6], [0.91, 0.91, 0.91])
    assert together == [0, 1, 3]


@pytest.mark.parametrize("top_p", [1.0, 0.999])
def test_draw_outside_the_likeliest_tokens_equals_a_full_sort(top_p) -> None:
    generator = torch.Generator().manual_seed(0)
    num_rows, num_tokens = 50, 4 * NUM_LIKELIEST
    logits = torch.randn(num_rows, num_tokens, generator=generator)
    uniforms = torch.rand(num_rows, generator=generator, dtype=torch.float64)
    probs, ids = logits.softmax(-1).sort(descending=True)
    mass = probs.double().cumsum(-1)
    kept = (mass - probs < top_p).sum(-1) - 1
    total = mass.gather(1, kept[:, None])
    ranks = torch.minimum((mass <= uniforms[:, None] * total).sum(-1), kept)
    expected = ids.gather(1, ranks[:, None])[:, 0].tolist()
    assert draw_tokens(logits, [1.0] * num_rows, [top_p] * num_rows, uniforms.tolist()) == expected
    assert ranks.max() > NUM_LIKELIEST > ranks.min()
