"""Initial values for parameters, chosen by keyword: `dense(10, weight_init=normal(0.01))`."""

from lincoln_fn.faces import face

face(__name__)
