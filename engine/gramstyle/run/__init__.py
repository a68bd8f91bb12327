"""One run: its options, plan, scales, records, checkpoints and resumption."""
