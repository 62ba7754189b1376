"""Whether a chain of images is tested well enough to be published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtforge.errors import NotTested

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trtforge.production.staged import Staged
    from trtforge.publishing.catalogue import Catalogue
    from trtforge.smoke import SmokeReport


def reports_of(
    chain: Sequence[Staged], reports: Mapping[str, SmokeReport], catalogue: Catalogue
) -> dict[str, SmokeReport]:
    """For each image of `chain` that has tests, by its recipe's key, what they said: now, or when this very
    image was published before. Those without tests are tested through the image upon them."""
    found = {}
    for one in chain:
        known = catalogue.by_digest(one.recipe.image, one.image.digest)
        report = reports.get(one.recipe.key) or (known.smoke if known else None)
        if report:
            found[one.recipe.key] = report
    return found


def require_tested(
    chain: Sequence[Staged], reports: Mapping[str, SmokeReport], *, require_gpu: bool = False
) -> None:
    """See that each image of `chain` that carries tests has passed them.

    Raises:
        NotTested: with the image and the checks that keep it from being published.
    """
    for one in chain:
        report, carries = reports.get(one.recipe.key), _carries_tests(one)
        if report is None and carries:
            raise NotTested(one.recipe.ref, "its smoke tests were not run", {})
        if report and not report.ok:
            failed = {result.name: result.reason for result in report.results if result.status == "failed"}
            raise NotTested(one.recipe.ref, "smoke tests failed" if failed else "no check could run", failed)
        if report and require_gpu and (skipped := gpu_skipped(report)):
            raise NotTested(one.recipe.ref, "checks that need a GPU were skipped (--require-gpu)", skipped)
    if chain[-1].recipe.key not in reports:
        raise NotTested(chain[-1].recipe.ref, "it has no smoke tests, and no image upon it that has", {})


def gpu_skipped(report: SmokeReport) -> dict[str, str]:
    """The checks that were skipped for want of a GPU, or of one that the image is for, with their reasons:
    both say so (smoke/gpu.py)."""
    return {
        result.name: result.reason
        for result in report.results
        if result.status == "skipped" and "GPU" in result.reason
    }


def in_words(report: SmokeReport) -> str:
    """`report` in a line; what was skipped never looks passed."""
    skipped: dict[str, list[str]] = {}
    for result in report.results:
        if result.status == "skipped":
            skipped.setdefault(result.reason, []).append(result.name)
    counts = [f"{report.count('passed')} passed"]
    if failed := report.count("failed"):
        counts.append(f"{failed} failed")
    counts += [f"{len(names)} skipped ({', '.join(names)}: {why})" for why, names in skipped.items()]
    return ", ".join(counts)


def brief(report: SmokeReport) -> SmokeReport:
    """`report` without what the checks saw: an index of thousands of images has to stay small."""
    results = tuple(result.model_copy(update={"detail": {}}) for result in report.results)
    return report.model_copy(update={"results": results})


def _carries_tests(one: Staged) -> bool:
    return any(path.startswith("opt/smoke/") for path in one.recipe.files)
