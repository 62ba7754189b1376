"""plan: what a build of the selected cells would do, image by image, and why."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from trtforge.axes import BroughtBase
from trtforge.cells import Cell, Choice, Verdict
from trtforge.commands.registry_options import (
    PlainHttpOption,
    RegistryCaOption,
    RegistryOption,
    open_namespace,
)
from trtforge.commands.selection import Session, with_session
from trtforge.left_out import cuts_of, savings
from trtforge.left_out import told as left_out_rows
from trtforge.lock import Lock
from trtforge.nightly.fan_out import github_matrix as github_matrix_of
from trtforge.nightly.tasks import look, tasks
from trtforge.plan import ImagePlan, plan_image
from trtforge.record import find_record
from trtforge.rules import explanation
from trtforge.terminal import megabytes, plain_table


@with_session
def plan(
    session: Session,
    *,
    explain: Annotated[bool, typer.Option("--explain", help="Say why each version was chosen.")] = False,
    github_matrix: Annotated[
        bool, typer.Option("--github-matrix", help="The published cells as jobs, for GitHub's fromJSON.")
    ] = False,
    registry: RegistryOption = None,
    registry_ca: RegistryCaOption = None,
    plain_http: PlainHttpOption = False,
) -> None:
    """Show what a build would do: build, reuse, skip or reject, each with its reason. Changes nothing.

    With --github-matrix and --registry: only the cells that a nightly there would publish.
    """
    if github_matrix:
        wanted = [choice.cell for choice in session.project.cells.published(session.request)]
        if registry:
            with (
                session.terminal.progress() as progress,
                open_namespace(session.project, registry, registry_ca, plain_http) as namespace,
            ):
                found = tasks(wanted, session.project.read_lock(), session.project, look(namespace, progress))
            wanted = [task.cell for task in found if task.action == "publish"]
        print(json.dumps(github_matrix_of(wanted), separators=(",", ":")))
        return
    if session.all_cells:
        lock = session.project.read_lock()
        plans = [_verdict_plan(session, verdict, lock) for verdict in session.project.cells.every()]
    else:
        plans = [describe_plan(session, choice) for choice in session.choose()]
    show_plan(session, plans, explain=explain)
    if any(one["state"] == "build" for one in plans):
        jobs = session.jobs(None)
        session.terminal.say(f"{jobs.count} layers at a time: {jobs.reason}")


def describe_plan(session: Session, choice: Choice) -> dict[str, Any]:
    """What a build would do for a chosen cell."""
    lock = session.project.read_lock()
    told = _verdict_plan(session, session.project.cells.verdict(choice.cell), lock)
    return told | {"explanation": _explanation(session, choice, lock)}


def show_plan(session: Session, plans: list[dict[str, Any]], *, explain: bool = False) -> None:
    """Show the plans; many of them only as a line each."""
    session.terminal.answer(plans)
    for one in plans:
        session.terminal.say(f"{one['cell']:<52} {one['state']:<7} {one['reason']}".rstrip())
        if len(plans) > 8:
            continue
        if explain:
            table = plain_table("", "", "")
            for line in one.get("explanation", []):
                table.add_row(f"  {line['what']}", line["value"], line["why"])
            session.terminal.say(table, "")
        for image in one["images"]:
            size = f", {megabytes(image['size'])}" if image["size"] else ""
            smoke = f"; smoke: {image['smoke']}" if image.get("smoke") else ""
            session.terminal.say(
                f"  {image['image']:<14} {image['action']:<7} {image['reason']}{size}{smoke}"
            )


def _verdict_plan(session: Session, verdict: Verdict, lock: Lock) -> dict[str, Any]:
    cells, cell = session.project.cells, verdict.cell
    told: dict[str, Any] = {"cell": cells.name(cell), "axes": cell.axes(), "images": []}
    if verdict.broken:
        facts = cells.facts(cell)
        rules = [{"rule": rule.id, "because": explanation(rule, facts)} for rule in verdict.broken]
        return told | {
            "state": "reject",
            "reason": f"rule {rules[0]['rule']}: {rules[0]['because']}",
            "rules": rules,
        }
    locked = lock.cells.get(told["cell"])
    if locked is None:
        return told | {"state": "build", "reason": "not locked yet; a build locks it first"}
    if locked.state == "unlocked":
        return told | {"state": "skip", "reason": f"unlocked: {locked.reason}"}
    plans = [
        plan_image(recipe, session.project.store) for recipe in session.project.recipes.chain(cell, lock)
    ]
    reuse = all(one.action == "reuse" for one in plans)
    images = [_image_plan(session, one) for one in plans]
    return told | {"state": "reuse" if reuse else "build", "reason": "locked", "images": images}


def _image_plan(session: Session, one: ImagePlan) -> dict[str, Any]:
    record = find_record(one.recipe.key, session.project.store)
    smoke = record.smoke if record else None
    told: dict[str, Any] = {
        "image": one.recipe.image,
        "ref": one.recipe.ref,
        "recipe_key": one.recipe.key,
        "action": one.action,
        "reason": one.reason,
        "size": one.image.size if one.image else 0,
    }
    if smoke:
        counts = [f"{smoke.count(status)} {status}" for status in ("passed", "failed", "skipped")]
        told["smoke"] = ", ".join(counts)
    return told


def _explanation(session: Session, choice: Choice, lock: Lock) -> list[dict[str, str]]:
    """For each part of a cell what was chosen and what that decides."""
    project, cell = session.project, choice.cell
    cells, axes = project.cells, project.matrix.axes
    build, cuda = cells.build(cell), axes.cuda[cell.cuda]
    flavour = project.matrix.flavours[cells.flavour(cell)]
    builds = ", ".join(one.cuda for one in axes.torch[cell.torch].builds)
    left_out = sorted(set(axes.arch[cell.arch].sm) - set(cells.sm(cell)))
    why_sm = axes.arch[cell.arch].gpus
    if left_out:
        why_sm += f"; SM {', '.join(left_out)} is left out: TensorRT {cell.tensorrt} does not target it"
    torch = (
        "torch",
        f"{cell.torch}+{build.name}",
        f"published for CUDA {builds}; one build runs on every driver of its major"
        f" ({cuda.driver} or newer)   rule torch-cuda-major",
    )
    system = axes.os[cell.os]
    why_os = f"Python {cell.python}, glibc {system.glibc}"
    if isinstance(system, BroughtBase):
        found = lock.bases.get(cell.os)
        torch = (
            "torch",
            found.torch if found else cell.torch,
            f"the one of {cell.os}, which is kept as it is",
        )
        why_os += f"; your own base {system.base}"
    why_cuda = (
        f"decides the driver label and, in devel, the compiler (newest SM: {cuda.newest_sm});"
        f" the libraries are torch's own, of CUDA {build.cuda}"
    )
    with_torch = cells.variant(cell).torch
    if not with_torch:
        library = cells.cuda_library(cell)
        beside = (
            f"TensorRT loads the library of {library.package}"
            if library
            else "TensorRT loads no library of it"
        )
        why_cuda = f"decides the driver label ({cuda.driver} or newer); {beside}, and there is no torch"
    rows = [
        *([torch] if with_torch else []),
        ("cuda", cell.cuda, why_cuda),
        (
            "tensorrt",
            f"{flavour.short} {cell.tensorrt}",
            "; ".join(choice.passed_over) or _why_flavour(session),
        ),
        ("SM", ", ".join(cells.sm(cell)), why_sm),
        ("arch list", cells.arch_list(cell), "TORCH_CUDA_ARCH_LIST: what extensions are compiled for"),
        *([_gpu_code(session, cell)] if with_torch else []),
        ("os", cell.os, why_os),
        ("locked", _locked(cells.name(cell), lock), "matrix.lock"),
    ]
    if _locked(cells.name(cell), lock) == "locked":
        pins, cuts = cuts_of(cells, cell, lock)
        rules = left_out_rows(project.matrix.files, savings(pins, cuts, project.store))
        rows += [(f"without {rule}", saved, why) for rule, saved, why in rules]
    return [{"what": what, "value": value, "why": why} for what, value, why in rows]


def _gpu_code(session: Session, cell: Cell) -> tuple[str, str, str]:
    """What machine code torch's own libraries have."""
    slimmed = ", ".join(session.project.matrix.slim)
    if sms := session.project.cells.slim_sm(cell):
        return (
            "GPU code",
            f"SM {', '.join(sms)}",
            f"that of other GPUs is dropped from the libraries of {slimmed}",
        )
    return (
        "GPU code",
        "all",
        f"what {slimmed or 'torch'} was built for; --slim keeps that of the cell's GPUs alone",
    )


def _why_flavour(session: Session) -> str:
    return "asked for" if "tensorrt" in session.request else "the first of the matrix that can be had here"


def _locked(tag: str, lock: Lock) -> str:
    return lock.cells[tag].state if tag in lock.cells else "not yet"
