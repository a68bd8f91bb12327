"""Simulate one evaluation and one step of the optimiser on a Dask cluster (extra `simulate`).

    python -m tools.simulate_reduction                      a gigapixel, 1 to 64 workers
    python -m tools.simulate_reduction 24576x16384 --workers 8 --bandwidth 10 --rate 1e7

The simulation follows `ClusterObjective` step by step. Each machine has one thread and one network
interface; the interface sends one message at a time and receives one message at a time. The
scheduler runs on the client's machine and handles one task at a time.

1. The client cuts each tile's window out of the image and sends it. Before it sends the next one,
   the window AHEAD × workers before it must have arrived and been placed on its worker, which
   happens when the worker's thread is next free.
2. A worker runs pass 1 of a tile as soon as its thread is free.
3. When all windows are sent, the sums are added in the order of `tree_sum`. Each addition runs on
   the worker of one of its two addends: on the one that has fewer tasks.
4. The total goes to the client and then to every worker. A worker receives it from any worker that
   has it and is not sending it to another one.
5. The workers run pass 2 of all tiles, the last tile first, each on the worker of its pass 1. The
   client fetches and adds the gradients in that order, one after the other.
6. The client runs the optimiser.

Left out: the set-up (the model, the style image's Gram matrices and the content image's responses
are on the workers already), the workers' memory and disks, lost workers, and work stealing. Tiles
are assigned to workers in turn, as the content image's responses are among equal workers.

    model         what is simulated: a cluster, a tiled image, the outcome
    simulation    the events, with SimPy
    __main__      the command line and the table
"""
