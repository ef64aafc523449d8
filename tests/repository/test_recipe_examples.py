"""The programs of the recipes run for a few steps, and draw; the numbers are those of long runs."""

import re

import pytest


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "steps", "line", "low", "high"),
    [
        ("vit_digits", 150, "accuracy", 0.2, 1.0),
        ("flow_moons", 60, "nats", 1.0, 2.6),
        ("graph_digits", 30, "with edges", 0.8, 1.0),
        ("ddpm_digits", 60, "last steps", 0.1, 1.0),
        ("vqvae_digits", 200, "error", 0.01, 0.12),
    ],
)
def test_a_program_learns_and_draws(name, steps, line, low, high, run, picture):
    lines = [each for each in run(name, "--steps", steps, "--plot", picture) if line in each]
    number = float(re.search(rf"{line}\D*(\d+\.\d+)", lines[0])[1])
    assert low < number < high


@pytest.mark.full
def test_a_network_solves_poissons_equation(run):
    lines = run("pinn", "--steps", 3)
    error = float(re.fullmatch(r"largest error (\S+)", lines[-1])[1])
    assert 0 < error < 1e-3
    assert [line[:6] for line in lines[:3]] == ["step 1", "step 2", "step 3"]
