"""The report's page: one self-contained HTML file that opens offline."""

import re
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from pcbench import params
from pcbench.instructions import NATIVE
from pcbench.params import REFERENCE, Parameters, Result
from pcbench.provenance import environments
from pcbench.report import figures, methods, panels, writing
from pcbench.report.claims import CLAIMS
from pcbench.report.ledger.words import NOT_TESTED, REFUTED, REPRODUCED
from pcbench.report.results import Source, TaskResults
from pcbench.report.table import STAGE_OF, Table, labels_of, labels_shared

NOT_RECORDED = "not recorded"
_MANY = 24  # characters

# The page's style sheet gives the colours another value in the dark; the files on disk keep theirs.
_COLOURS = {
    panels.INK: "currentColor",
    panels.PAPER: "none",
    **{colour: f"var(--rule-{i}, {colour})" for i, colour in enumerate(figures.PALETTE)},
    **{colour: f"var(--heat-{i}, {colour})" for i, colour in enumerate(panels.HEAT)},
    **{colour: f"var(--heat-ink-{i}, {colour})" for i, colour in enumerate(panels.HEAT_INKS)},
}


def render(
    tasks: Sequence[TaskResults],
    sources: Sequence[Source],
    metrics: Result,
    tables: Sequence[Table],
    drawings: Sequence[figures.Drawing],
    parameters: Parameters,
) -> str:
    """Return the page as HTML.

    Args:
        tasks: list of `pcbench.report.results.TaskResults`.
        sources: every result that tables and figures were made from.
        metrics: the summary of all, with the verdicts on the claims.
        tables: what `pcbench.report.tables.build` made of them.
        drawings: what `pcbench.report.figures.build` made of them.
        parameters: see `pcbench.params.load`.
    """
    loader = PackageLoader("pcbench.report", ".")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["figure"] = _figure_text
    measured = [table for table in tables if table.number is not None]
    rows, environments = _provenance(sources)
    by_path = {row["path"]: row for row in rows}
    sources_of = {table.name: _sources_of(table, by_path) for table in measured}
    described = environment.get_template("methods.html.j2").render(
        rules=methods.rules(measured, parameters),
        tasks=methods.tasks(metrics, parameters),
        seeds=len(params.profile(parameters, metrics["profile"])["seeds"]),
    )
    return environment.get_template("page.html.j2").render(
        profile=metrics["profile"],
        answer=answer(metrics),
        facts=_facts(tasks, metrics),
        tasks=[task.name for task in tasks],
        measured=measured,
        wordy={table.name: _wordy(table) for table in measured},
        claims=[(claim, metrics["claims"][claim.id]) for claim in CLAIMS],
        claims_caption=next(table.caption for table in tables if table.name == "claims"),
        stage_of=STAGE_OF,
        drawings=[(drawing, _panels(drawing, {row["anchor"]: row for row in rows})) for drawing in drawings],
        methods=described,
        provenance=rows,
        environments=environments,
        by_path=by_path,
        sources_of=sources_of,
        shown={name: {row["anchor"] for rows in found.values() for row in rows} for name, found in sources_of.items()},
        good={writing.BIT_IDENTICAL, writing.EQUAL, writing.SAME_PROGRAM, writing.SUFFICIENT, writing.NECESSARY},
        tones={REPRODUCED: "good", REFUTED: "bad", NOT_TESTED: "quiet"},
        css=loader.get_source(environment, "page.css")[0],
        js=loader.get_source(environment, "page.js")[0],
    )


def _wordy(table):
    """The columns that have cells of many words: they are set as text, not as figures."""
    rows = [row for group in table.groups for row in group.rows]
    return {i for i in range(1, len(table.heads) - 1) if any(len(row[i]) > _MANY for row in rows)}


def _sources_of(table, by_path):
    """The results behind each row, by its group's heading, if groups are rules, else by None; and by its label."""
    of_rules = {group.heading for group in table.groups} == {record.get("label") for record in table.records}
    found = {}
    for record in (record for record in table.records if record["source"]):
        heading = record["label"] if of_rules else None
        label = str(next(iter(record.values())))
        found.setdefault((heading, label), {})[record["source"]] = by_path[record["source"]]
    return {place: list(rows.values()) for place, rows in found.items()}


def answer(metrics: Result) -> tuple[str, str]:
    """Return the page's answer to its question, one sentence computed from the metrics, with a word before it."""
    gradients = [cell for task in metrics["tasks"].values() for cell in task["exactness"].get("zil", {}).values()]
    weights = [task["weights"]["zil"] for task in metrics["tasks"].values() if "zil" in task["weights"]]
    if not gradients or not weights:
        return "Not tested.", "These results hold no figures of Z-IL."
    compared, equal = (sum(cell[key] for cell in gradients) for key in ("seeds", "seeds_equal"))
    updates, followed = (sum(cell[key] for cell in weights) for key in ("updates", "updates_equal"))
    same = equal == compared and followed == updates and all(cell["bitwise_equal"] for cell in weights)
    return (
        "Yes, bit for bit." if same else "Not bit for bit.",
        f"Z-IL’s gradients were bit-identical to backpropagation’s in {writing.count(equal)} of "
        f"{writing.count(compared)} comparisons, and so were its weights after {writing.count(followed)} of "
        f"{writing.count(updates)} updates of training.",
    )


def _facts(tasks, metrics):
    """What to remember: pairs of a figure and what it is, each of one kind: exact, statistical, timing, verdicts."""
    known = metrics["tasks"].values()
    facts = []
    weights = [task["weights"]["zil"]["max_ulp"] for task in known if "zil" in task["weights"]]
    if weights:
        text = f"{writing.span(weights, writing.ulps)} ULP"
        facts.append(("exact", text, "largest distance of Z-IL’s weights from BP’s at any update, task and seed"))
    trained, timed = labels_shared(task.train for task in tasks), labels_of(task.cost for task in tasks)
    for rule in [rule for rule in trained if rule not in (REFERENCE, "zil")]:
        gaps = [100 * (task["accuracy"][rule]["mean"] - task["accuracy"][REFERENCE]["mean"]) for task in known]
        meaning = f"points of test accuracy by which {trained[rule]}, which is not exact, differs from BP"
        facts.append(("statistical", writing.span(gaps, writing.points), meaning))
    times = {
        rule: [task["cost"][rule]["ratio"]["median"] for task in known] for rule in ("zil", "il-20") if rule in timed
    }
    if len(times) == 2:
        zil, il = (writing.span(values, writing.ratio) for values in times.values())
        facts.append(("timing", f"{zil} ×", f"BP’s time per weight update for Z-IL; {il} × for {timed['il-20']}"))
    verdicts = [entry["verdict"] for entry in metrics["claims"].values()]
    counts = ((verdict, verdicts.count(verdict)) for verdict in (REFUTED, NOT_TESTED))
    rest = ", ".join(f"{count} {verdict}" for verdict, count in counts if count)
    text = f"{verdicts.count(REPRODUCED)} of {len(verdicts)}"
    facts.append(("verdicts", text, f"claims reproduced{'; ' + rest if rest else ''}"))
    return facts


def _figure_text(value):
    """A record's figure to four digits: the CSV files have them all."""
    return f"{value:.4g}" if isinstance(value, float) else value


def _panels(drawing, by_anchor):
    """Each panel of a figure as an inline SVG of its own, which flows with the page's width, and the result behind it."""
    drawn = {name: figures.svg(drawing.figure([name])) for name in drawing.shown}
    # Of several panels of one task, each says after a comma which it is.
    of = {name: name.partition(",")[0] for name in drawn}
    return [
        {
            "name": name,
            "task": of[name],
            "svg": _inline(svg, f"{drawing.name}-{name}", f"{drawing.title}: {name}"),
            "source": by_anchor.get(_anchor(drawing.stage, of[name])),
        }
        for name, svg in drawn.items()
    ]


def _anchor(stage, task):
    return f"source-{stage}-{task}"


def _inline(svg, name, label):
    """Make a figure's SVG part of a page: colours that follow the scheme, and identifiers of its own."""
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    name = re.sub(r"\W+", "-", name)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub("|".join(_COLOURS), lambda match: _COLOURS[match[0]], svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _provenance(sources):
    """One row for every result, and the environments that they were made in, each listed once."""
    listed, rows = [], []
    for source in sources:
        record = source.provenance
        row = {
            "path": source.path.as_posix(),
            "anchor": _anchor(source.stage, source.task),
            "task": source.task,
            "sha256": source.sha256,
            "recorded": record is not None,
        }
        if record is not None:
            of_result = [_environment(where) for where in environments(record)]
            listed += [each for each in of_result if each not in listed]
            dirty = {True: " with uncommitted changes", False: ""}.get(record.get("dirty"), "")
            row |= {
                "commit": (record.get("git_commit") or NOT_RECORDED)[:12] + dirty,
                "code": record.get("code_sha256") or NOT_RECORDED,
                "parameters": record.get("parameters_sha256") or NOT_RECORDED,
                "data": record.get("data_sha256", NOT_RECORDED) or writing.MISSING,
                "environments": sorted({listed.index(each) + 1 for each in of_result}),
            }
        rows.append(row)
    return rows, listed


def _environment(record):
    return {
        **{name: version or "not installed" for name, version in record.get("versions", {}).items()},
        "processor": record.get("cpu") or NOT_RECORDED,
        "instruction set": _instructions(record.get("instruction_set")),
        "GPU": record.get("gpu") or "none",
        "threads": record.get("threads", NOT_RECORDED),
        "platform": record.get("platform") or NOT_RECORDED,
    }


def _instructions(recorded):
    """One text for what `pcbench.instructions.in_force` gives."""
    if not recorded:
        return NOT_RECORDED
    return f"{recorded['force']}, {'not pinned' if recorded['pinned'] == NATIVE else 'pinned'}"
