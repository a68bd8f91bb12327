"""gramstyle against PyTorch: one evaluation of loss and gradient, and the whole optimisation.

    python -m tools.benchmark [--sizes 256 512 1024] [--rounds 3] [--threads 2] [--output FOLDER]

from the repository's root. Every contender is measured alone in a process of its own, because
idle threads of one runtime would slow the other down, and the processes alternate, because
machines drift. What cannot run (no PyTorch, no compiler for torch.compile) is reported with its
reason and the others go on; contenders that disagree about the loss or its gradient end the run.

The parts, in the order in which a run meets them:

    contenders    who takes part, and how each evaluates the objective
    engines       gramstyle's own: built as `gramstyle transfer` builds them
    pytorch       the same objective as users of PyTorch write it; the only `import torch`
    worker        what runs in a contender's own process; prints one line of JSON
    measuring     seconds, memory, the machine's matrix product
    processes     starts the workers in turn
    summary       medians, ratios, agreement, the time to reach a loss
    report        Markdown and a plot
    running       all of it, in order
    machine       processor and versions
"""
