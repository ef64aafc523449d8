"""Pictures of training and of backward passes, by matplotlib: `pip install 'lincoln_fn[plot]'`.

Each function draws on the axes that it is given, or on those of a new figure, and returns them:

    axes = lf.plots.learning_curve(history)
    axes.figure.savefig("curve.png")

A notebook shows the figure if the axes are the value of a cell. Elsewhere nothing is shown, and
pyplot's figures do not change. Matplotlib is imported by the first picture.
"""

from lincoln_fn.faces import face

face(__name__)
