"""An oil painting computed stroke by stroke from a seed (the program is `tools/paint.py`).

A scene is a list of regions, painted from back to front. A region has a mask, a direction field
that its strokes follow, and several paints that compete for each stroke. Each region is painted
with several brushes, from the widest to the narrowest. The canvas records colour and height; at
the end a light from the upper left shades the height, as in impasto.

    fields      the image's coordinates, noise, and other arrays of the image's size
    flows       direction fields
    strokes     regions, brushes, and the strokes that they make
    canvas      the canvas, and what one stroke leaves on it
    palettes    colours
    motifs      sky, hills, water, fields, trees: functions that build a region
    scenes      the two compositions, and `paint`

Points are fractions of the image's width and height. Radii, brushes and the scale of noise are
pixels of a reference image of 768 × 614, so that a scene looks the same at every size.
"""
