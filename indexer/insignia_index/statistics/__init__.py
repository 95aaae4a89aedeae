"""Statistics of answers: pure functions over numpy arrays, each with the source of its formula."""
