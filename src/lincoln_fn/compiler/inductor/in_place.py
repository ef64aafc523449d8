"""What Inductor's loops may update in place.

The last loop that reads a tensor may put its result in the tensor's memory: y = f(z) in that of z.
Inductor also counts loops that do not read the tensor, but have to run later, because they update
what it was computed from. The update of a donated weight, for example, has to run after the product
with the weight. So in a donated step almost no memory would be reused.
"""

from __future__ import annotations

from typing import Any

from torch._inductor.custom_graph_pass import CustomSchedulerPass


class WithoutOrderings(CustomSchedulerPass):
    """Forgets which loops only have to run later: their order is also kept elsewhere."""

    def __call__(self, nodes: list[Any]) -> list[Any]:  # Any: of no public type
        """Forget them, except for views: a view of an updated tensor needs its order."""
        for node in nodes:
            for output in node.get_outputs():
                if not output.get_aliases():
                    output.users = [user for user in output.users if not user.is_weak]
        return nodes

    def uuid(self) -> str:
        """Return its name for the key of Inductor's cache."""
        return "lincoln_fn"
