"""The operator page: a look at the queue, the running jobs, the latest results and the worker, live in a browser."""
