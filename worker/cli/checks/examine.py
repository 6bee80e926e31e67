"""Run all checks at the same time, each with a time limit and independent of the others."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from worker.cli.checks import broker, configured, database, directory, endpoints, model, waiting, workers
from worker.cli.checks.finding import Finding, Installation, Level, failed, skipped
from worker.clock import monotonic


@dataclass(frozen=True, slots=True)
class Check:
    """The check of one part. It is skipped if the check that it *needs* failed or was skipped."""

    name: str
    run: Callable[[Installation], Iterable[Finding]]
    needs: str | None = None


# In the order of the report. A check that needs the database is skipped if the database does not answer.
CHECKS = (
    Check("settings", configured.settings),
    Check("teams", configured.teams),
    Check("data directory", directory.check),
    Check("database", database.answers),
    Check("writing", database.writes, needs="database"),
    Check("broker", broker.check),
    Check("workers", workers.check, needs="database"),
    Check("runs", waiting.runs, needs="database"),
    Check("summaries", waiting.summaries, needs="database"),
    Check("model", model.check),
    Check("api", endpoints.api),
    Check("flower", endpoints.flower),
)


@dataclass(frozen=True, slots=True)
class Result:
    """The findings about one part."""

    name: str
    findings: Sequence[Finding]

    @property
    def usable(self) -> bool:
        return all(finding.level in (Level.OK, Level.WARNING) for finding in self.findings)

    @property
    def failed(self) -> bool:
        return any(finding.level is Level.FAILED for finding in self.findings)


@dataclass(slots=True)
class _RunningCheck:
    """A check on a daemon thread: the process does not wait for one that hangs."""

    check: Check
    findings: list[Finding] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def start(self, installation: Installation) -> None:
        threading.Thread(target=self._run, args=(installation,), name=self.check.name, daemon=True).start()

    def result(self, *, deadline: float, within_s: float) -> Result:
        in_time = self.done.wait(max(0.0, deadline - monotonic()))
        detail = f"There was no answer within {within_s:g} s: it is frozen or overloaded, or the network drops packets."
        advice = "Check that its process runs and can be reached; --within gives it more time."
        return Result(self.check.name, list(self.findings) if in_time else [failed("no_answer", detail, advice)])

    def _run(self, installation: Installation) -> None:
        try:
            for finding in self.check.run(installation):
                self.findings.append(finding)
        except BaseException as error:  # noqa: BLE001 - a module of teams may call sys.exit
            detail = f"The check itself ended with {type(error).__name__}."
            self.findings.append(failed("check_failed", detail, "The other checks are valid. Please report this one."))
        finally:
            self.done.set()


def examine(installation: Installation, *, within_s: float, on_result: Callable[[Result], None]) -> list[Result]:
    """Return the result of each check, in order. A check that takes longer than *within_s* seconds has failed.

    *on_result* is called with each result as soon as it is available.
    """
    results: dict[str, Result] = {}
    for stage in ([c for c in CHECKS if c.needs is None], [c for c in CHECKS if c.needs is not None]):
        running = []
        for check in stage:
            if check.needs is not None and not results[check.needs].usable:
                results[check.name] = Result(check.name, [skipped(f"It needs the {check.needs}.")])
                on_result(results[check.name])
                continue
            running.append(_RunningCheck(check))
            running[-1].start(installation)
        deadline = monotonic() + within_s
        for each in running:
            results[each.check.name] = each.result(deadline=deadline, within_s=within_s)
            on_result(results[each.check.name])
    return [results[check.name] for check in CHECKS]
