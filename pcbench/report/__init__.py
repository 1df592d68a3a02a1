"""The report: results in; tables, figures, claims, metrics and one page out."""

from importlib import resources
from pathlib import Path

import jinja2

from pcbench.files import write_json, write_text
from pcbench.report import claims, figures, summary, tables

ASIDE = {"exactness": "divergence", "accuracy": "accuracy", "cost": "cost"}  # which figure stands with which table


def build(results, out, profile):
    """Write the report of the results under ``results`` to ``out``.

    Writes ``index.html`` (one file that needs no other), ``tables/*.{md,tex,csv}``, ``figures/*.svg`` and
    ``metrics.json``, each of them atomically.

    Returns:
        The metrics, as written.

    Raises:
        ResultError: a result is missing, unreadable or of another schema.
    """
    results, out = Path(results), Path(out)
    records = summary.read_results(results)
    metrics = summary.summarise(records, profile)
    metrics["claims"] = claims.judge(metrics)
    drawn = figures.make(records, metrics)
    made = tables.make(metrics, results.as_posix())
    for table in made:
        for suffix, text in (("md", table.markdown()), ("tex", table.latex()), ("csv", table.csv())):
            write_text(out / "tables" / f"{table.name}.{suffix}", text)
    for name, (svg, _) in drawn.items():
        write_text(out / "figures" / f"{name}.svg", svg)
    write_text(out / "index.html", _page(metrics, made, drawn, summary.provenance_of(records)))
    write_json(out / "metrics.json", metrics)
    return metrics


def _page(metrics, made, drawn, provenance):
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pcbench.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    style = resources.files("pcbench.report").joinpath("page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        metrics=metrics,
        answer=answer(metrics),
        tables=made,
        figures=drawn,
        aside=ASIDE,
        provenance=provenance,
        style=style,
    )


def answer(metrics):
    """The page's first sentences, computed: did Z-IL equal backpropagation, and at what cost?"""
    gradients = [
        rules["zil"][dtype]["bitwise_equal"]
        for rules in (task.get("exactness", {}) for task in metrics["tasks"].values())
        for dtype in tables.DTYPES
        if dtype in rules.get("zil", {})
    ]
    weights = [t["weights"]["zil"] for t in metrics["tasks"].values() if "zil" in t.get("weights", {})]
    ratios = [t["cost"]["zil"]["ratio_median"] for t in metrics["tasks"].values() if "zil" in t.get("cost", {})]
    sentences = []
    if gradients:
        sentences.append(
            f"Z-IL's gradients were bit-identical to backpropagation's in {sum(gradients)} of {len(gradients)} "
            "combinations of task and precision."
        )
    if weights:
        identical, updates = (sum(found[key] for found in weights) for key in ("identical_updates", "updates"))
        sentences.append(
            f"In training, its weights were bit-identical after {identical:,} of {updates:,} weight updates."
        )
    if ratios:
        sentences.append(f"A weight update took {min(ratios):.2f} to {max(ratios):.2f} times backpropagation's time.")
    return " ".join(sentences)
