"""How far out a text lies in each feature, as a probability: what makes limits of unlike features comparable.

Beyond the start of a tail, values are taken to fall off exponentially (peaks over threshold; Coles, An Introduction to
Statistical Modeling of Extreme Values, 2001, chapter 4, with shape 0). One probability for all features is then a limit
for each, as in the min-p procedure (Westfall and Young, Resampling-Based Multiple Testing, 1993).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caravan.recipe.calibration import Calibration

Values = npt.NDArray[np.float64]
FLAT = 1e-9  # scale of a tail in which all values are the same


@dataclass(frozen=True)
class Tails:
    """The exponential tail of each feature.

    Attributes:
        starts: value at which it begins [R].
        shares: log of the share of texts beyond that [R].
        scales: mean distance of those from the start [R].
    """

    starts: Values
    shares: Values
    scales: Values

    @classmethod
    def fit(cls, values: Values, general: Values, config: Calibration) -> Tails:
        """Fit the tails to texts, and to one more that lies `config.prior` of the way to the general limit.

        Args:
            values: of each text [n, R], greater ones farther out, NaN where there is none; each feature has some.
            general: a limit of each feature [R]; one before the start of the tail says nothing.
        """
        many = (~np.isnan(values)).sum(0)
        starts = np.nanquantile(values, 1 - config.tail, axis=0, method="lower")
        beyond = np.fmax(values - starts, 0)
        count = (beyond > 0).sum(0) + 1
        total = beyond.sum(0) + config.prior * np.maximum(general - starts, 0)
        return cls(starts, np.log(np.minimum(1, count / many)), np.maximum(total / count, FLAT))

    def log_probability(self, values: Values) -> Values:
        """Log of the probability of so great a value or a greater one [n, R]; 0 before the tail and where it is NaN."""
        beyond = np.nan_to_num(values - self.starts)
        return np.where(beyond > 0, np.minimum(0, self.shares - beyond / self.scales), 0)

    def limits(self, log_probability: float) -> Values:
        """The value of each feature that is as improbable as this [R]."""
        return self.starts + self.scales * np.maximum(0, self.shares - log_probability)


def cross_fitted(values: Values, general: Values, config: Calibration) -> Values:
    """Least log probability over all features of each text [n], by tails fit to the other folds.

    Args:
        values: in random order [n, R].
        general: see `Tails.fit`.
    """
    scores, part = np.empty(len(values)), np.arange(len(values)) % config.folds
    for fold in range(config.folds):
        tails = Tails.fit(values[part != fold], general, config)
        scores[part == fold] = tails.log_probability(values[part == fold]).min(1, initial=0)
    return scores


def joint_probability(scores: Values, loss: float) -> float:
    """The log probability below which at most a share `loss` of unseen texts is expected to lie.

    It is the k-th smallest score of the sample, k = floor(loss (n + 1)): a text from the same source lies below that
    with probability k / (n + 1) (split conformal prediction; Papadopoulos et al., ECML 2002).

    Raises:
        ValueError: the sample is too small for so small a loss.
    """
    rank = int(loss * (len(scores) + 1) + 1e-9)
    if rank < 1:
        raise ValueError(f"at least {int(np.ceil(1 / loss)) - 1} texts for a loss of {loss}")
    return float(np.partition(scores, rank - 1)[rank - 1])
