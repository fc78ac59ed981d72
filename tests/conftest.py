"""Fixtures stand in plugins, by subject; what is no fixture is in helpers.py.

Everything is real: the server, DVC, DuckDB. The server is the embedded one, on a socket in a private folder.
"""

pytest_plugins = [
    "tests.fix_folders",
    "tests.fix_postgres",
    "tests.fix_project",
    "tests.fix_engine",
    "tests.fix_clone",
    "tests.fix_remote",
    "tests.fix_night",
    "tests.fix_prune",
    "tests.fix_adopt",
]
