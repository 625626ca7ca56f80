"""Spikes: steps whose gradient is far larger than those before it, the first sign that a run comes apart.

PolyLM's 13B had its peak rate set from them: below the point of warm-up where the gradient norm first spikes (arXiv
2307.06018).
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median

WINDOW = 100
LEAST = 10


class Spikes:
    """Tells of each step whether it is a spike: over `factor` times the median of the last `WINDOW` steps without one.

    The first `LEAST` steps are none, unless what they give is no number.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.calm: deque[float] = deque(maxlen=WINDOW)

    def at(self, norm: float) -> bool:
        """Whether a step with this gradient norm is a spike; it is remembered if not."""
        if not math.isfinite(norm):
            return True
        if len(self.calm) >= LEAST and norm > self.factor * median(self.calm):
            return True
        self.calm.append(norm)
        return False
