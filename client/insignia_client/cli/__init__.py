"""The command `insignia`, and its sub-commands that need no more than the base install."""
