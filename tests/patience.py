"""How long tests wait for what ends by itself, or should: so long that only a hang takes it.

A machine with other work beside may take a minute for what takes a second alone.
"""

PATIENCE = 1800.0  # seconds
