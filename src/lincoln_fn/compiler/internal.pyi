from lincoln_fn.compiler.inductor.disk_cache import digest as digest
from lincoln_fn.compiler.step import CompiledRun as CompiledRun
