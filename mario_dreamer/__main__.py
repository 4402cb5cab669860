"""`python -m mario_dreamer`: the same as `mario-dreamer`."""

from mario_dreamer.cli import main

if __name__ == "__main__":
    main()
