"""`python -m lincoln_fn.testing.assignment softmax` makes an assignment of a layer's file."""

from lincoln_fn.grading.assignment import main

if __name__ == "__main__":
    main()
