"""Plan, scatter, merge, finalise."""
