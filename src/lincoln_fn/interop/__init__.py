"""To and from torch and numpy, and the model files of Hugging Face's library and of llama.cpp.

One table, in `names`, has torch's names and layouts, so conversions cannot disagree.
"""

from lincoln_fn.faces import face

face(__name__)
