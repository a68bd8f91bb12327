"""Tiles for images of any size: loss and gradient are exactly those of the whole image.

The terms of the loss add up over positions. Each position of every layer belongs to one tile, so
the tiles' sums add up to the image's. The values of the terms follow from these sums, for all tiles
alike, and the gradient of the loss is the sum of the tiles' gradients.

- `areas`: which positions belong to a tile, and how much of its surroundings it needs;
- `objective`: the two passes over the tiles, with the interface of `Objective`;
- `spill`: stores between the passes the results that need not be computed twice;
- `budget`: chooses the tiles for a memory budget.
"""

from gramstyle.tiling.areas import Tile, Tiling
from gramstyle.tiling.objective import TiledObjective
from gramstyle.tiling.spill import SpillStore

__all__ = ["SpillStore", "Tile", "TiledObjective", "Tiling"]
