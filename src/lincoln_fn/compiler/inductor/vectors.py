"""The processor's vectors, as Inductor knows them."""

from __future__ import annotations

from typing import Final

# Inductor is to believe torch of the processor's vectors: to try them takes it seven seconds.
VECTORS: Final = {"cpp.vec_isa_ok": True}


def lanes() -> int:
    """Count the float32 numbers in one of the processor's vectors."""
    # Imported here, for Inductor takes longer than all the rest of the library.
    from torch._inductor import config
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    with config.patch(VECTORS):
        isa = pick_vec_isa()
        return isa.nelements() if isa else 0
