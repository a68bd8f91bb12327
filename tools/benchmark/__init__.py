"""gramstyle against PyTorch: one evaluation of loss and gradient, and the whole optimisation.

    python -m tools.benchmark [--sizes 256 512 1024] [--rounds 3] [--threads 2] [--output FOLDER]
    python -m tools.benchmark --optimiser [--sizes 512 1024] [--size 512] [--iterations 30]

With --optimiser, it measures gramstyle's optimisers instead, without their evaluations.

Run it from the repository's root. Every contender runs alone in a process of its own, because idle
threads of one runtime would slow down another. The processes alternate, because the speed of a
machine drifts. A contender that cannot run (no PyTorch, no compiler for torch.compile) is reported
with the reason, and the others go on. If contenders disagree about the loss or its gradient, the
run ends.

The modules, in the order in which a run uses them:

    contenders    the contenders, and what they provide
    running       the whole run: sizes, rounds, checks, the optimisation
    processes     starts the worker processes in turn
    worker        runs in a contender's own process; prints one line of JSON
    engines       gramstyle's engines, built as `gramstyle transfer` builds them
    pytorch       the same objective in PyTorch; the only `import torch`
    optimiser     the optimisers alone
    measuring     seconds, memory, the machine's matrix product
    summary       medians, ratios, agreement, the time to reach a loss
    machine       processor and versions
    report        Markdown and a plot
"""
