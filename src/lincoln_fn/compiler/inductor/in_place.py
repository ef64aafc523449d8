"""What Inductor's loops may update in place.

A loop puts its result in the memory of a tensor that it is the last to read, as y = f(z) in that of
z. Inductor counts among a tensor's readers those loops, too, that only have to come later because
they update what went into it, as the update of a donated weight has to come after the product with
it. So in a donated step almost no memory would be used again.
"""

from __future__ import annotations

from typing import Any

from torch._inductor.custom_graph_pass import CustomSchedulerPass


class WithoutOrderings(CustomSchedulerPass):
    """Forgets which loops only have to come later: their order is kept elsewhere too."""

    def __call__(self, nodes: list[Any]) -> list[Any]:  # Any: of no public type
        """Forget them, but of views: those of what is updated would be lost."""
        for node in nodes:
            for made in node.get_outputs():
                if not made.get_aliases():
                    made.users = [user for user in made.users if not user.is_weak]
        return nodes

    def uuid(self) -> str:
        """Name it for Inductor's cache."""
        return "lincoln_fn"
