"""What a run or a network looks like from inside: traces, figures, plots, comparisons."""
