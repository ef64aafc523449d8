from lincoln_fn.walk import one_part as one_part
from lincoln_fn.walk.arrangement import (
    ENTRIES as ENTRIES, Record as Record, fields as fields, gather_entries as gather_entries,
    visit_parts as visit_parts,
)
from lincoln_fn.walk.composition import (
    Back as Back, Composition as Composition, Mask as Mask, There as There,
    VisitRecord as VisitRecord, composition as composition, composition_of as composition_of,
    mask_form as mask_form,
)
from lincoln_fn.walk.in_place import (
    InPlaceError as InPlaceError, check_in_place as check_in_place,
    check_unchanged as check_unchanged,
)
from lincoln_fn.walk.init import (
    init_in_turn as init_in_turn, init_with_outputs as init_with_outputs, on_meta as on_meta,
    output_of as output_of,
)
from lincoln_fn.walk.one_part import around as around
from lincoln_fn.walk.parts import (
    ERRORS as ERRORS, Placed as Placed, Tap as Tap, always as always,
    check_entries as check_entries, inside as inside, is_trained as is_trained,
    place_parts as place_parts,
)
from lincoln_fn.walk.paths import (
    Pair as Pair, change_parts as change_parts, is_target as is_target, map_paths as map_paths,
    paths as paths, unknown_path as unknown_path,
)
from lincoln_fn.walk.visitors import (
    ALL as ALL, BACKWARD as BACKWARD, DPARAMS as DPARAMS, PREDICT as PREDICT,
    VisitBack as VisitBack, VisitThere as VisitThere, Wants as Wants, allows_loops as allows_loops,
    sum_uses as sum_uses, untrained as untrained,
)
from lincoln_fn.walk.walks import (
    Site as Site, cotangents as cotangents, grads_at as grads_at, skipped as skipped,
    there as there, walk_back as walk_back,
)
