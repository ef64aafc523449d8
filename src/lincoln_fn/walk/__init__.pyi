from lincoln_fn.walk.arrangement import (
    ALL_BUT_LAST as ALL_BUT_LAST, Arrangement as Arrangement, ENTRIES as ENTRIES,
    ITS_PART as ITS_PART, fields as fields,
)
from lincoln_fn.walk.composition import Composition as Composition, composition as composition
from lincoln_fn.walk.parts import check_entries as check_entries, is_trained as is_trained
from lincoln_fn.walk.paths import map_params as map_params
from lincoln_fn.walk.visitors import VisitBack as VisitBack, VisitThere as VisitThere
from lincoln_fn.walk.walks import (
    Site as Site, back as back, cotangents as cotangents, forward_to_train as forward_to_train,
    gradients as gradients, grads_at as grads_at, there as there,
)
