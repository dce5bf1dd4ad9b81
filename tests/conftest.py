"""One reproducible way to run: the same examples at each run, one thread, and no display."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")

import torch
from hypothesis import settings

settings.register_profile("book", derandomize=True, deadline=None, database=None, max_examples=30)
settings.register_profile("search", deadline=None, database=None, max_examples=500)
settings.load_profile("book")  # pytest --hypothesis-profile=search looks further
torch.set_num_threads(1)  # the tensors are tiny: a second thread only waits
