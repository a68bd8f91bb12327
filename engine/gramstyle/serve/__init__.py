"""Transfers as jobs of a service: a queue, workers and results in one folder, behind HTTP.

`store` and `folder` hold the jobs on disk, `rendering` runs one of them, `worker` is the process in
which that happens, `workers` gives the processes their jobs, `feed` tells who watches a job how far
it is, and `service` is what the HTTP interface in `http` calls.
"""
