"""One file, one sub-command, named as it is typed after `mario-dreamer`."""
