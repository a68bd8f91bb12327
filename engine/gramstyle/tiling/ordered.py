"""Arrays that keep the order of their axes in memory when they are copied or sent."""

from dataclasses import dataclass

from gramstyle.core.arrays import Array


@dataclass(frozen=True)
class OrderedArray:
    """A copy of an array, contiguous in the order in which its axes lie in memory.

    Engines differ in that order. A sum over the restored array has the same bits as one over the
    original. Pickle alone would change the order.

    Attributes
    ----------
    axes
        The axes of the original, the one with the largest stride first.
    data
        The numbers, contiguous.
    """

    axes: tuple[int, ...]
    data: Array

    @classmethod
    def of(cls, array: Array) -> "OrderedArray":
        """Return an ordered copy of an array."""
        axes = tuple(sorted(range(array.ndim), key=lambda axis: -array.strides[axis]))
        return cls(axes, array.transpose(axes).copy())

    def restored(self) -> Array:
        """Return the array with its axes in their original places, a view of `data`."""
        result: Array = self.data.transpose([self.axes.index(i) for i in range(len(self.axes))])
        return result
