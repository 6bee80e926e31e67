"""Make every check, all at the same time, each within its bound, whatever becomes of the others."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from worker.cli.checks.finding import Finding, Installation, Level, failed, skipped
from worker.clock import monotonic


@dataclass(frozen=True, slots=True)
class Check:
    """One part of an installation, and how it is looked at: not at all where what it *needs* failed or was skipped."""

    name: str
    look: Callable[[Installation], Iterable[Finding]]
    needs: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What was found about one part."""

    name: str
    findings: Sequence[Finding]

    @property
    def looked(self) -> bool:
        return all(finding.level in (Level.OK, Level.WARNING) for finding in self.findings)

    @property
    def failed(self) -> bool:
        return any(finding.level is Level.FAILED for finding in self.findings)


@dataclass(slots=True)
class _Look:
    """A check under way, on a thread that the process does not wait for: one that hangs is left behind."""

    check: Check
    findings: list[Finding] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def begin(self, installation: Installation) -> None:
        threading.Thread(target=self._run, args=(installation,), name=self.check.name, daemon=True).start()

    def result(self, *, deadline: float, within_s: float) -> Result:
        found = list(self.findings) if self.over.wait(max(0.0, deadline - monotonic())) else [_silent(self, within_s)]
        return Result(self.check.name, found)

    def _run(self, installation: Installation) -> None:
        try:
            for finding in self.check.look(installation):
                self.findings.append(finding)
        except BaseException as error:  # noqa: BLE001 - a module of teams may even end the program
            detail = f"The check itself ended with {type(error).__name__}."
            self.findings.append(failed("check_failed", detail, "The other checks stand. Please report this one."))
        finally:
            self.over.set()


def examine(
    checks: Sequence[Check], installation: Installation, *, within_s: float, on_result: Callable[[Result], None]
) -> list[Result]:
    """Return what each check finds, in their order; one that takes longer than *within_s* seconds has failed.

    *on_result* is called with each as it is known.
    """
    known: dict[str, Result] = {}
    for stage in ([c for c in checks if c.needs is None], [c for c in checks if c.needs is not None]):
        looks = []
        for check in stage:
            if check.needs is not None and not known[check.needs].looked:
                known[check.name] = Result(check.name, [skipped(f"It needs the {check.needs}.")])
                on_result(known[check.name])
                continue
            looks.append(_Look(check))
            looks[-1].begin(installation)
        deadline = monotonic() + within_s
        for look in looks:
            known[look.check.name] = look.result(deadline=deadline, within_s=within_s)
            on_result(known[look.check.name])
    return [known[check.name] for check in checks]


def _silent(look: _Look, within_s: float) -> Finding:
    detail = (
        f"There was no answer within {within_s:g} s: it is frozen, overloaded, or something on the way drops packets."
    )
    return failed(
        "no_answer", detail, "See whether its process runs and is reached from here; --within gives it longer."
    )
