"""Which test types the commands of which page, and which commands no test types.

A page whose commands need no more than a running `up` and a run that has ended goes BESIDE_UP: its line here is all
that has to be added.
"""

BESIDE_UP = "tests/guide/test_pages.py"

FOLLOWED = {
    "README.md": "tests/guide/test_readme.py",
    "ops/handbook/batches.md": "tests/guide/test_batches.py",
    "ops/handbook/chaos.md": BESIDE_UP,
    "ops/handbook/containers.md": BESIDE_UP,
    "ops/handbook/events.md": "tests/guide/test_events.py",
    "ops/handbook/operations.md": "tests/guide/test_operations.py",
    "ops/handbook/retention.md": BESIDE_UP,
    "ops/handbook/runbooks/backup-and-restore.md": "tests/guide/test_backups.py",
    "ops/handbook/runbooks/database-away.md": BESIDE_UP,
    "ops/handbook/runbooks/losing-redis.md": "tests/guide/test_losing_redis.py",
    "ops/handbook/runbooks/no-worker.md": BESIDE_UP,
    "ops/handbook/runbooks/not-scraped.md": BESIDE_UP,
    "ops/handbook/runbooks/runs-fail.md": BESIDE_UP,
    "ops/handbook/runbooks/stuck-run.md": "tests/guide/test_stuck_run.py",
    "ops/handbook/security.md": BESIDE_UP,
    "ops/handbook/writing-a-team.md": "tests/guide/test_writing_a_team.py",
}

_ENGINE = "needs an engine; tests/containers starts each service as the compose file has it"

NOT_TYPED = {
    "OPENAI_API_KEY=… ops/docker/prepare": "writes into the repository; tests/containers types it",
    "docker build --tag team-sessions:local --file ops/docker/Dockerfile .": _ENGINE,
    "docker compose up --detach --wait": _ENGINE,
    "docker compose run --rm migration keys create --name first": _ENGINE,
    "docker compose run --rm migration keys create --name prometheus --scope runs:read > .secrets/metrics-key": _ENGINE,
    "docker compose --profile watch up --detach --wait": _ENGINE,
    "docker build --tag my-sessions . "
    "&& TEAM_SESSIONS_IMAGE=my-sessions TEAM_SESSIONS_TEAMS=my_teams docker compose up --detach": _ENGINE,
    "ops/test": "runs the tests, this one too",
    "ops/chaos/run": "half an hour; tests/crash/test_chaos.py plays it for seconds",
    "ops/chaos/run --seconds 20": "tests/crash/test_chaos.py is this",
    "ops/chaos/run --outage all": "more than an hour; tests/crash/test_outages.py plays some for seconds",
    "ops/chaos/run --seed 1234": "half an hour; tests/crash/test_chaos.py takes a seed too",
    "ops/chaos/run --break fence --seconds 15 --database sqlite": "tests/crash/test_chaos.py breaks each in turn",
}
