"""`python -m lincoln_fn.testing package.module:Mine --inputs "f32[4,8], f32[8]"` checks Mine."""

from lincoln_fn.testing.functions.check import main

if __name__ == "__main__":
    main()
