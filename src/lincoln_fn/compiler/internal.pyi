from lincoln_fn.compiler.compile import CompiledRun as CompiledRun
from lincoln_fn.compiler.inductor.disk_cache import digest as digest
