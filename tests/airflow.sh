#!/bin/sh
# The DAG in a real Airflow, whose programs are in the folder $1: it is imported without errors, a good night is a
# success, and a night that fails is a failed task.
set -eu
bin=$(cd "$1" && pwd)
project=$(pwd)
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
mkdir "$home/good" "$home/bad"
printf 'night:\n\t@echo night OK\n' > "$home/good/Makefile"
printf 'night:\n\t@echo night FAILED: on purpose; exit 8\n' > "$home/bad/Makefile"
export AIRFLOW_HOME="$home" AIRFLOW__CORE__DAGS_FOLDER="$project/deploy/airflow" AIRFLOW__CORE__LOAD_EXAMPLES=False
export PATH="$bin:$PATH"
airflow db migrate > "$home/log" 2>&1
python -W ignore - << 'PYTHON'
import os
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
assert bag.import_errors == {}, bag.import_errors
(dag,) = bag.dags.values()
assert dag.dag_id == "behavioral_events_night"
assert dag.max_active_runs == 1 and not dag.catchup
PYTHON
BEHAVIORAL_EVENTS_HOME="$home/good" airflow dags test behavioral_events_night > "$home/good.log" 2>&1 || { tail -20 "$home/good.log"; exit 1; }
grep -q "night OK" "$home/good.log"
if BEHAVIORAL_EVENTS_HOME="$home/bad" airflow dags test behavioral_events_night > "$home/bad.log" 2>&1; then
    tail -20 "$home/bad.log"
    exit 1
fi
grep -q "night FAILED: on purpose" "$home/bad.log"
echo "airflow: the DAG is imported, a good night succeeds, a bad one fails"
