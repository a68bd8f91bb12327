"""L-BFGS-B over the array namespace, in bounded memory; all that is remembered stays in place.

The same method as SciPy's (Byrd, Lu, Nocedal, Zhu, "A limited memory algorithm for bound
constrained optimization", 1995), written in passes over blocks of entries, so that it runs on a
GPU, and on histories that are not in memory. An iteration has three parts:

1. The model: f(x + d) ≈ f + gᵀd + ½ dᵀBd with B = θ I − V K⁻¹ Vᵀ, where the 2k rows of V are
   the last k differences y of the gradient and, times θ, the last k steps s (their section 3).
2. The direction (`direction`): the model's minimum over the entries that are free to move,
   clipped to the box; then those that were clipped are held at their bound and the others find
   their minimum again. Differs from Byrd et al. (1995), who follow the gradient's path, bound
   after bound, to see which entries to hold: that is one step after the other for every entry.
3. The search along it for the strong Wolfe conditions (`search`), with their constants.

Sums over entries are in float64, block by block in a fixed order. The matrices of 2k × 2k are
solved on the host.

Beside the pairs (`pairs`, `disk`) and the start, which is the caller's, an iteration over n
entries holds at most 6 vectors of n: x, the direction and a trial's x, all in the start's float
type, and the gradients at x, at the best trial so far and at the present one, as the objective
gives them. What it works on besides is one block long. So the whole is

    6 n + 2 m n  entries, or 6 n where the m pairs are on a disk.
"""

from gramstyle.optimise.lbfgsb.blocks import BLOCK
from gramstyle.optimise.lbfgsb.disk import PairsOnDisk
from gramstyle.optimise.lbfgsb.pairs import Pairs, PairsInMemory, pairs_within
from gramstyle.optimise.lbfgsb.run import State, begin, minimise, proceed, step

__all__ = [
    "BLOCK",
    "Pairs",
    "PairsInMemory",
    "PairsOnDisk",
    "State",
    "begin",
    "minimise",
    "pairs_within",
    "proceed",
    "step",
]
