"""The null of random signatures: what a group's mean score is beside that of genes like these.

``pseudobulk``: sums of attributions by (study, sample, cell type). ``bins``: genes that are like one another.
``group_null``: expectation, spread and p of a score under random genes of the same bins.
``answer``: for a search.
"""
