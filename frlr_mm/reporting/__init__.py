"""What the command lines share: the machine, timing, tables, figures, the logs of runs.

Only ``figures`` imports matplotlib; the modules are imported one by one.
"""
