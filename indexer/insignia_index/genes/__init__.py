"""What gene names mean: the table of a species' names, and how names are resolved against a vocabulary."""
