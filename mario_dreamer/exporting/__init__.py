"""Export the policy: one step of acting as a program that runs without this package."""
