from lincoln_fn.core import declaration as declaration, keys as keys, tree as tree
from lincoln_fn.core.constructors import (
    arguments_of as arguments_of, asked_of as asked_of, bare as bare, bind_like as bind_like,
    constructor as constructor, over_axes as over_axes, takes_all as takes_all,
)
from lincoln_fn.core.declaration import (
    Declaration as Declaration, declare as declare, declare_like as declare_like,
    declared_by as declared_by, gradients_of as gradients_of, input_grad_of as input_grad_of,
    kind_of as kind_of, mask_of as mask_of,
)
from lincoln_fn.core.keys import (
    Key as Key, Shape as Shape, checked_key as checked_key, normal as normal,
)
from lincoln_fn.core.layer import (
    Composed as Composed, Layer as Layer, file_of_forward as file_of_forward,
    has_no_params as has_no_params, is_derived as is_derived, is_ours as is_ours,
    map_layers as map_layers,
)
from lincoln_fn.core.record import (
    EVERYTHING as EVERYTHING, State as State, TRAINED as TRAINED, evolve as evolve, html as html,
    is_record as is_record, record as record, shown as shown, static as static,
)
from lincoln_fn.core.signatures import (
    no_params as no_params, shape_checked as shape_checked, unchanged as unchanged,
)
from lincoln_fn.core.spec import (
    Made as Made, Spec as Spec, call_of as call_of, call_of_parts as call_of_parts,
    called as called, constructor_of as constructor_of, file_of as file_of, made_by as made_by,
    with_spec as with_spec,
)
from lincoln_fn.core.tensors import (
    ASKED as ASKED, Version as Version, cast as cast, cast_like as cast_like,
    changed_since as changed_since, check_not_transformed as check_not_transformed,
    checksum as checksum, is_between as is_between, is_finite as is_finite,
    is_forward_mode as is_forward_mode, is_plain as is_plain, is_traced as is_traced,
    is_transformed as is_transformed, is_wrapped as is_wrapped, mirrors as mirrors,
    named_leaves as named_leaves, same_strides as same_strides, tensors_in as tensors_in,
    version_of as version_of, versions as versions,
)
from lincoln_fn.core.terms import (
    Correlation as Correlation, Explicit as Explicit, Gather as Gather, Outer as Outer,
    Term as Term, check_batched as check_batched, length_first as length_first, mirror as mirror,
    no_batch as no_batch, sum_axes as sum_axes, sum_rows as sum_rows,
)
from lincoln_fn.core.tree import T as T, Tree as Tree
from lincoln_fn.core.values import (
    Addable as Addable, Arrays as Arrays, Cache as Cache, Channels as Channels,
    ConvInput as ConvInput, ConvOutput as ConvOutput, Elements as Elements, Features as Features,
    Image as Image, Instances as Instances, Like as Like, Moved as Moved, Outputs as Outputs,
    Params as Params, Pooled as Pooled, Reduced as Reduced, Rows as Rows, Sequence as Sequence,
    Several as Several, Sizes as Sizes, StandIns as StandIns, add_trees as add_trees,
    check_axis as check_axis, check_bias as check_bias, check_cache as check_cache,
    check_cotangent as check_cotangent, check_input as check_input, check_like as check_like,
    check_params as check_params, shape_of as shape_of, stand_in as stand_in,
    stand_ins as stand_ins, wrong_shape as wrong_shape,
)
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
