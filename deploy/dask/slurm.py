"""Workers as jobs of SLURM, by dask-jobqueue, for as long as this process runs; start it in the project's folder.

pip install dask-jobqueue; python deploy/dask/slurm.py 8. It prints the engine to give to make: PIPELINE_ENGINE=...
DATABASE_URL and PSEUDONYM_KEY reach the jobs as SLURM passes on the environment, or by .env in the folder.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from dask_jobqueue import SLURMCluster
from distributed.security import Security

if __name__ == "__main__":
    with SLURMCluster(
        cores=1,
        processes=1,
        memory="2GB",
        walltime="04:00:00",
        job_script_prologue=[f"cd {Path.cwd()}"],
        security=Security(require_encryption=True),  # with the certificates of Dask's variables (docs/scale.md)
        protocol="tls://",
        scheduler_options={"dashboard": False},
    ) as cluster:
        cluster.scale(jobs=int(sys.argv[1]))
        print(f"PIPELINE_ENGINE=dask:{cluster.scheduler_address}", flush=True)
        while True:
            time.sleep(60)
