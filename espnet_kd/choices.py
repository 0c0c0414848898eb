"""Names that options may have. Imports nothing: plans are checked without torch."""

OBJECTIVES = ("collapsed", "full", "top_k", "full_sum")
NODES = ("all", "occupancy", "one_best")
DIVERGENCES = ("forward", "reverse", "symmetric")
NORMALIZATIONS = ("path", "node", "sum")
