"""The mathematics of the paper: operations, losses, the network and the objective."""
