"""The atlas: its format, and everything that reads or writes it."""
