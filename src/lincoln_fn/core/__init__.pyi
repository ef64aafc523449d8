from lincoln_fn.core import declaration as declaration, keys as keys, tree as tree
from lincoln_fn.core.constructors import *
from lincoln_fn.core.declaration import *
from lincoln_fn.core.keys import (
    Key as Key, Shape as Shape, checked_key as checked_key, normal as normal,
)
from lincoln_fn.core.layer import *
from lincoln_fn.core.record import (
    EVERYTHING as EVERYTHING, State as State, TRAINED as TRAINED, evolve as evolve, html as html,
    is_record as is_record, record as record, shown as shown, static as static,
)
from lincoln_fn.core.signatures import *
from lincoln_fn.core.spec import *
from lincoln_fn.core.tensors import *
from lincoln_fn.core.terms import *
from lincoln_fn.core.tree import T as T, Tree as Tree
from lincoln_fn.core.values import *
from lincoln_fn.errors.annotations import Function as Function
from lincoln_fn.errors.arguments import (
    BY_HAND as BY_HAND, BY_POSITION as BY_POSITION, Bound as Bound, ByPosition as ByPosition,
    Decay as Decay, Epsilon as Epsilon, FloatingDtype as FloatingDtype, Momentum as Momentum,
    NOT_EMPTY as NOT_EMPTY, NonNegative as NonNegative, NonNegativeInt as NonNegativeInt,
    NonNegativeSizes as NonNegativeSizes, OR_INFINITE as OR_INFINITE, OpenSize as OpenSize,
    Positive as Positive, PositiveInt as PositiveInt, PositiveSizes as PositiveSizes,
    Probability as Probability, Range as Range, Shown as Shown, at_least as at_least,
    check_argument as check_argument, checked as checked,
)
from lincoln_fn.errors.descriptions import (
    A_TUPLE as A_TUPLE, HABITS as HABITS, STATE as STATE, describe as describe,
    describe_non_tuple as describe_non_tuple, first_of as first_of,
    format_briefly as format_briefly, is_constructor as is_constructor, is_function as is_function,
    no_attribute as no_attribute, suggest as suggest,
)
from lincoln_fn.errors.errors import (
    LayerError as LayerError, NonFiniteError as NonFiniteError, check_pair as check_pair,
    describe_non_pair as describe_non_pair, place as place, require as require,
    unexpected as unexpected, warn as warn, wrong_kind as wrong_kind,
)
