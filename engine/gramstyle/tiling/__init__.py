"""An image of any size in tiles, exactly: loss and gradient are those of the whole image.

Equations 1 and 3 are sums over positions. Tiles share the positions of every layer out among
themselves, so their sums add up to the image's; what follows, equations 4 to 7, is the same for
all of them; and the gradient of the sum is the sum of the tiles' gradients.

- `areas` is the geometry: which positions a tile owns, and how much of its surroundings it needs;
- `objective` is the two passes over the tiles, behind the same call as `Objective`;
- `shelf` keeps between the passes what need not be computed twice, in memory or on disk;
- `budget` chooses tiles for the memory that there is.
"""

from gramstyle.tiling.areas import Tile, Tiling
from gramstyle.tiling.objective import TiledObjective, tiled_content_targets, tiled_style_targets
from gramstyle.tiling.spill import Shelf

__all__ = [
    "Shelf",
    "Tile",
    "TiledObjective",
    "Tiling",
    "tiled_content_targets",
    "tiled_style_targets",
]
