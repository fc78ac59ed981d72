"""A night of the behavioural events pipeline as an Airflow 3 DAG: one task, since a night is whole or not at all.

Put this file into the DAGs folder and set BEHAVIORAL_EVENTS_HOME to the checkout, in the environment of the workers.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

HOME = os.environ.get("BEHAVIORAL_EVENTS_HOME", "/srv/behavioral-events")

with DAG(
    dag_id="behavioral_events_night",
    description="refresh, repro, commit, push",
    schedule="23 2 * * *",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,  # a night always takes the newest state
    max_active_runs=1,
    tags=["behavioral-events"],
):
    BashOperator(
        task_id="night",
        bash_command="make -s night",
        cwd=HOME,
        append_env=True,
        retries=0,  # a night tries again what can be tried; refused pins and failed checks are not mended by it
        execution_timeout=timedelta(hours=3),
    )
