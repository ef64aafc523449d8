from lincoln_fn.compiler.compile import compile as compile
from lincoln_fn.compiler.export import export as export, export_step as export_step
