"""What a notebook shows of networks, params, caches, states and histories.

Layers, records, histories, traces and summaries show themselves if they are the value of a cell.
`view` shows the same of any value, and the extension

    %load_ext lincoln_fn.notebook

of every tuple and list of records, such as the params of a composition.
"""

from lincoln_fn.notebook.views import View, load_ipython_extension, unload_ipython_extension, view
from lincoln_fn.notebook.views import load_if_in_ipython as load_if_in_ipython

__all__ = ["View", "load_ipython_extension", "unload_ipython_extension", "view"]
