"""Small draws that the vocabulary's rows are made of."""

SIZES = (1, 1, 2, 3, 3, 4, 5, 6, 7, 8, 8, 12, 16, 17, 24, 33)
RARE_SIZES = (64, 100)


def chance(rng, p):
    """Tell whether something of probability p happens."""
    return rng.random() < p


def size(rng):
    """Draw a number of features or channels."""
    return rng.choice(RARE_SIZES) if chance(rng, 0.04) else rng.choice(SIZES)


def divisor(rng, n):
    """Draw a number that divides n."""
    return rng.choice([d for d in range(1, n + 1) if n % d == 0])


def options(rng, **choices):
    """Draw some of the keyword arguments, each from its choices; the others keep their defaults."""
    return {name: rng.choice(of) for name, of in choices.items() if chance(rng, 0.4)}
