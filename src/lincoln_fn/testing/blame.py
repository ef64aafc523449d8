"""Which gradient of which part of a layer is wrong, or which function fails.

A plain comparison has failed; kinks, ties and digits are considered. Next to every kink a function
is smooth. So a gradient is judged at points close by, where no tie and no kink is left: what is
wrong there is a mistake. What is right there may still differ from an oracle at x itself. On a kink
any value between the slopes around is right, and the place is left out; elsewhere it is a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Key, Layer, LayerError, Params, keys
from lincoln_fn.testing import point
from lincoln_fn.testing.diagnosis import TOLERANCE, Finding, GradientError, Verdict, close
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.explain import name_mistakes, worst_place
from lincoln_fn.testing.hypotheses import Mistake
from lincoln_fn.testing.oracles import relative_error, scales
from lincoln_fn.testing.sample import Sample, Subject, sample
from lincoln_fn.walk.internal import map_paths, paths

# How far the points close by are, in parts of each value.
DISTANCE = 1e-3
# By which those are multiplied for points nearer to x.
NEARER = 1e-3
PAIRS = 2
# So many points that agree decide.
ENOUGH = 2
# Above this part of the largest gradient, a change between points close by is a kink.
KINK = 0.05
LOOKED_AT = 20
# Of places left out, these many are listed.
LISTED = 5
# Of more numbers than these, differences for each take long.
MOST_DIFFERENCES = 300

FEW_DIGITS = "{} cannot be judged: the oracles see too few digits, or nan"
OF_DETACHED = "{} cannot be judged: forward detaches a part, and autograd and differences disagree"

UNSEEN = Mistake("", "is not the gradient of forward; with fewer numbers it may be seen where")

# An array of no numbers does not fit.
_EMPTY = re.compile(r"raised ValueError: .*from shape \((?:\d+, ?)*0[,)]")
# What older code uses, and numpy no longer has.
_REMOVED = re.compile(
    r"raised (AttributeError: (module 'numpy[\w.]*' has no attribute|`?np\.\w+`? was (a dep|rem))"
    r"|TypeError: reshape\(\) got an unexpected keyword argument 'newshape')"
)

Places = tuple[tuple[int, ...], ...]
Gradients = list[Tensor] | None


@attrs.frozen(eq=False)
class Judgement:
    """The verdict on each gradient, without what is told of a mistake."""

    findings: list[Finding]
    # None if no gradient is wrong.
    evidence: Evidence | None
    remarks: list[str]

    @property
    def wrong(self) -> list[int]:
        """The numbers of the gradients that are wrong."""
        return [i for i, finding in enumerate(self.findings) if finding.verdict == "wrong"]


def judge(at: Sample, key: Key, named: frozenset[str] = frozenset()) -> Judgement:
    """Judge the gradients of a sample; of those whose mistake has a name, at x alone."""
    close_by = _close_by(at, key)
    judgement = _judged(at, key, close_by, named)
    is_in_doubt = judgement.wrong or not close_by
    if is_in_doubt and any(bool((a == 0).any() and (a >= 0).all()) for a in at.arrays):
        # Probabilities and variances end at zero, where forward may be another function.
        inside = _judged(at, key, _close_by(at, key, inside=True))
        return judgement if inside.wrong else inside
    return judgement


def _judged(
    at: Sample, key: Key, close_by: list[Sample], named: frozenset[str] = frozenset()
) -> Judgement:
    points, here = close_by or [at], at.automatic
    remarks: list[str] = []
    findings: list[Finding] = []
    wrong_here = False
    nearer = cache(partial(_close_by, at, key, NEARER * DISTANCE, pairs=1))
    for i, name in enumerate(at.names):
        is_named = name in named and point.compare(at, i, key) == "wrong"
        verdict = "wrong" if is_named else _by_most([at, *close_by], i, key.fold_in(100 + i))
        kinks: Places = ()
        if verdict != "wrong" and close_by:
            around = torch.stack([other.given[i] for other in points])
            kinks, is_wrong = _at_itself(at, i, around, here, nearer)
            if is_wrong:
                verdict, wrong_here = "wrong", True
        if verdict == "right" and here and not kinks:
            if not point.is_close(at, i, here[i]):
                is_nan = not point.is_finite(here[i])
                told = "{}: autograd gives nan" if is_nan else point.DETACHED
                remarks.append(told.format(name))
        elif verdict == "right" and here is None:
            if point.detaches(at) and not point.leaves_torch(at):
                remarks.append(point.DETACHED.format(name))
        elif verdict == "not judged":
            auto = points[0].automatic
            is_detached = auto and close(points[0].given[i], auto[i]) and point.detaches(points[0])
            remarks.append((OF_DETACHED if is_detached else FEW_DIGITS).format(name))
        findings.append(Finding("", at.layer.name, name, verdict, left_out=kinks))
    wrong = {finding.leaf for finding in findings if finding.verdict == "wrong"}
    if not wrong or not (here or sum(a.numel() for a in at.arrays) <= MOST_DIFFERENCES):
        return Judgement(findings, None, remarks)
    where = at if wrong_here or wrong <= named else points[0]
    evidence = Evidence(where, point.truth(where, key))
    for i, right in enumerate(evidence.expected):
        is_known = where.automatic is not None and where.automatic[i] is right
        is_doubtful = point.matches if is_known else point.is_close
        if findings[i].verdict == "wrong" and is_doubtful(where, i, right):
            # What was found wrong equals the right one all the same.
            findings[i] = attrs.evolve(findings[i], verdict="not judged")
            remarks.append(FEW_DIGITS.format(at.names[i]))
    return Judgement(findings, evidence, remarks)


def _by_most(points: list[Sample], i: int, key: Key) -> Verdict:
    shown: list[point.Comparison] = []
    for n, at in enumerate(points):
        shown.append(point.compare(at, i, key.fold_in(n)))
        if shown.count("right") == ENOUGH or shown.count("wrong") == ENOUGH:
            break
    if shown.count("wrong") > shown.count("right"):
        return "wrong"
    return "right" if "right" in shown else "not judged"


def _close_by(
    at: Sample, key: Key, distance: float = DISTANCE, *, pairs: int = PAIRS, inside: bool = False
) -> list[Sample]:
    # With `inside`, the numbers stay between the least and the largest of their array.
    found = []
    for n in range(pairs):
        draw = key.fold_in(50 + n)
        signs = [_signed(draw.fold_in(i), array) for i, array in enumerate(at.arrays)]
        moves = [distance * scales(a) * sign for a, sign in zip(at.arrays, signs, strict=True)]
        for sign in (1, -1):
            moved = [a + sign * move for a, move in zip(at.arrays, moves, strict=True)]
            if inside:
                moved = list(map(_within, at.arrays, moved))
            with suppress(LayerError, GradientError):  # outside of the layer's domain
                near = at.at(moved)
                found += [near] * all(map(point.is_finite, near.given))
    return found


def _within(array: Tensor, moved: Tensor) -> Tensor:
    """Reflect numbers at the ends of an array's range."""
    if not array.numel():
        return moved
    low, high = array.min(), array.max()
    moved = low + (moved - low).abs()
    return moved if low == high else high - (high - moved).abs()


def _signed(key: Key, array: Tensor) -> Tensor:
    """Draw numbers from 0.5 to 1.5, with random signs: none is close to 0."""
    drawn = keys.uniform(key.near(array), tuple(array.shape), -1.0, 1.0).to(array.dtype)
    return drawn + torch.where(drawn < 0, -0.5, 0.5)


def _at_itself(
    at: Sample, i: int, around: Tensor, here: Gradients, nearer: Callable[[], list[Sample]]
) -> tuple[Places, bool]:
    """Find the kinks of x, and whether a gradient that is right around x is wrong at x."""
    given, low, high = at.given[i], around.amin(0), around.amax(0)
    if not given.numel() or given.shape != low.shape:
        return (), given.shape != low.shape
    size = around.abs().max()
    is_kink = high - low > KINK * size
    if bool(is_kink.any()):
        # Nearer to x, a smooth change is smaller, and a jump is not.
        near = [other.given[i] for other in nearer()]
        if len(near) > 1:
            is_kink &= (near[0] - near[1]).abs() > KINK * size
    kinks = _places(is_kink)
    auto = here[i] if here else None
    if auto is not None and point.is_close(at, i, auto):
        return kinks, False
    slack = KINK * size * 0.2 + 1e-12
    fits = (given >= low - slack) & (given <= high + slack)
    if auto is not None:
        fits |= ((given - auto).abs() <= TOLERANCE * size) | (given == auto)
    for place in _places(~fits & ~is_kink)[:LOOKED_AT]:
        below, above = point.one_sided(at, i, place)
        value, limit = float(given[place]), 1e-3 * float(size) + 1e-9
        if torch.isnan(given[place]):
            return kinks, True
        if abs(above - below) <= limit and abs(value - below) > 2 * limit:
            return kinks, True
        kinks = (*kinks, place)
    return kinks, bool(given.isnan().any())


def _places(mask: Tensor) -> Places:
    return tuple(tuple(place) for place in mask.nonzero().tolist())


def parts_at(net: Layer, params: Params, x: Arrays) -> list[tuple[str, Subject]]:
    """List the parts of a network with their paths and what they are given, innermost first."""
    layers = dict(paths(net))
    seen: dict[str, Subject] = {}

    def forward(path: str, inner: Layer, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        seen.setdefault(path, Subject(layers[path], params, x))
        return inner.forward(params, x)

    def spied(layer: Layer, path: str) -> Layer:
        return layer.replace(forward=partial(forward, path, layer)) if path else layer

    map_paths(spied, net).forward(params, x)
    return sorted(seen.items(), key=lambda row: -row[0].count("."))


def blamed(
    at: Sample, key: Key, named: frozenset[str] = frozenset()
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Judge a layer's gradients, and blame what is wrong on a part and on a mistake."""
    judgement = judge(at, key, named)
    wrong, evidence, name = judgement.wrong, judgement.evidence, at.layer.name
    parts = _wrong_parts(at, key) if wrong else []
    if parts:
        because = "; ".join(dict.fromkeys(part.where for part in parts))
        mistakes = dict.fromkeys(wrong, Mistake("a part", f"is wrong because of {because}"))
    else:
        sought = [i for i in wrong if at.names[i] not in named]
        found = name_mistakes(evidence, sought) if sought and evidence is not None else {}
        mistakes = dict.fromkeys(wrong, UNSEEN) | found
    is_whole = bool(at.layer.parts) and not parts
    why = " (all parts are right, but not how they are connected)" if is_whole else ""
    findings = judgement.findings
    for i, mistake in mistakes.items():
        said = f"{name}: {at.names[i]} {mistake.sentence}{why}"
        findings[i] = attrs.evolve(findings[i], name=mistake.name, sentence=said)
        if evidence is not None:
            given, right = evidence.sample.given[i], evidence.expected[i]
            place = worst_place(given, right) if given.shape == right.shape else None
            error = relative_error(given, right)
            findings[i] = attrs.evolve(findings[i], place=place, error=error)
    kinks = {f.leaf: f.left_out for f in findings if f.left_out}
    # A kink of x shows in the gradients of the params, too.
    of_x = {leaf: places for leaf, places in kinks.items() if leaf.startswith("dx")}
    remarks = [_kink_remark(leaf, places) for leaf, places in (of_x or kinks).items()]
    return (*parts, *findings), (*judgement.remarks, *remarks)


def _kink_remark(leaf: str, places: tuple[tuple[int, ...], ...]) -> str:
    """Say at which places a function has a kink."""
    listed = ", ".join(str(list(place)) for place in places[:LISTED])
    more = f" and {len(places) - LISTED} more places" if len(places) > LISTED else ""
    return f"{leaf.removeprefix('d')} lies on a kink at {listed}{more}"


def _wrong_parts(at: Sample, key: Key) -> list[Finding]:
    """Check the parts of a composition alone, the innermost first."""
    found: list[Finding] = []
    for path, part in parts_at(at.layer, at.params, at.x) if at.layer.parts else ():
        if any(finding.path.startswith(f"{path}.") for finding in found):
            continue  # a part of this one is wrong
        try:
            alone = sample(*part, key)
            if point.is_plainly_right(alone, key, 2):
                continue
            for finding in blamed(alone, key)[0]:
                if finding.verdict == "wrong":
                    told = f"{path} {finding.sentence}"
                    found.append(attrs.evolve(finding, path=path, sentence=told))
        except (GradientError, LayerError) as error:
            found.append(failure(part, error, path))
    return found


def failure(of: Subject, error: GradientError | LayerError, path: str = "") -> Finding:
    """Make the finding of an error: of which function it is, and what it says."""
    sentence, name = str(error), "contract"
    if isinstance(error, GradientError):
        function = error.function
    else:
        name, function = "refused", "forward"
        with suppress(Exception):  # a submission may fail in any way
            of.layer.forward(of.params, of.x)
            function = "backward"
    if _EMPTY.search(sentence):
        name, sentence = "empty slice", f"{sentence}; is a slice such as pad:-pad empty at pad 0?"
    is_old = bool(_REMOVED.search(sentence))
    if is_old:
        name, sentence = "numpy", f"{sentence}; this version of numpy has removed it"
    is_doubtful = is_old or (name, function) == ("refused", "forward")
    verdict: Verdict = "not judged" if is_doubtful else "wrong"
    return Finding(path, of.layer.name, function, verdict, name, sentence)
