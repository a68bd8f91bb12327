"""L-BFGS-B over any array namespace, in bounded memory.

The method is the same as SciPy's (Byrd, Lu, Nocedal, Zhu, "A limited memory algorithm for bound
constrained optimization", 1995). It is written as passes over blocks of entries, so that it runs
on a GPU and with a history on disk. An iteration has three parts:

1. The model: f(x + d) ≈ f + gᵀd + ½ dᵀBd with B = θ I − Vᵀ K⁻¹ V, where the 2k rows of V are
   the last k differences y of the gradient and, times θ, the last k steps s (their section 3).
2. The direction (`direction`): the model's minimum over the free entries, clipped to the box;
   then the clipped entries are fixed at their bounds and the others are minimised again. Differs
   from Byrd et al. (1995), who follow the projected gradient from bound to bound to find the
   entries to fix, which takes one sequential step for each entry.
3. The line search along it for the strong Wolfe conditions (`search`), with their constants.

The loops over all entries are written twice (`loops`): for any namespace, and compiled with Numba
for pairs in float32 on the host (`rows`, `compiled`), on several threads.

Sums over entries are computed in float64, block by block in a fixed order. The 2k × 2k systems
are solved on the host.

In addition to the pairs (`pairs`, `disk`) and the start, which belongs to the caller, an
iteration over n entries holds at most 6 vectors of n: x, the direction and the x of a trial, all
in the start's float type, and the gradients at x, at the best trial and at the current trial, in
the objective's type. All other arrays are one block long. The total is

    6 n + 2 m n  entries, or 6 n if the m pairs are on disk.
"""

from gramstyle.optimise.lbfgsb.blocks import BLOCK
from gramstyle.optimise.lbfgsb.disk import PairsOnDisk
from gramstyle.optimise.lbfgsb.loops import pairs_on_host
from gramstyle.optimise.lbfgsb.pairs import Pairs, PairsInMemory, pairs_within
from gramstyle.optimise.lbfgsb.rows import PairsInRows
from gramstyle.optimise.lbfgsb.run import State, begin, minimise, proceed, step

__all__ = [
    "BLOCK",
    "Pairs",
    "PairsInMemory",
    "PairsInRows",
    "PairsOnDisk",
    "State",
    "begin",
    "minimise",
    "pairs_on_host",
    "pairs_within",
    "proceed",
    "step",
]
