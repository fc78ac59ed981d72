"""One module a stage; what they share stands in shared/, what speaks to PostgreSQL in source/."""

import os
import time

STARTED = time.perf_counter()  # before the imports, which are a good part of a stage's time

# numpy's threads for linear algebra, which no stage does, would spin at every start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
