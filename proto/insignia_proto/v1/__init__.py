"""Generated from ``insignia.proto``; run ``make proto`` after a change."""
