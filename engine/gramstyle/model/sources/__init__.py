"""Files of weights as other programs write them, read as data: nothing in them is executed."""
