"""What running takes: hooks, loops, checkpoints, files and the launch of a run."""
