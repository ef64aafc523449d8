from lincoln_fn.compiler.compile import CompiledRun as CompiledRun, compile as compile
from lincoln_fn.compiler.export import export as export, export_step as export_step
from lincoln_fn.compiler.inductor.disk_cache import digest as digest
