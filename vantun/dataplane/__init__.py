"""The data plane: stages, the pipeline that runs them, and the worker process around it."""
