"""One profile's results in; its tables, figures, verdicts and page out."""

from collections.abc import Sequence
from pathlib import Path

from pcbench import params
from pcbench.errors import InvalidParameters
from pcbench.files import atomic, check_writable, json_text, write_text
from pcbench.params import Parameters, Result
from pcbench.provenance import digest
from pcbench.report import claims, figures, metrics, page, paper, table, tables, views
from pcbench.report.results import Source, read, read_scaling, read_zoo


def build(
    results: str | Path, out: str | Path, profile: str, parameters: Parameters, libraries: Sequence[Source] = ()
) -> Result:
    """Write the report on one profile's results.

    Writes ``index.html`` (one self-contained file), each of `pcbench.report.tables.build` as ``tables/*.{md,tex,csv}``, each
    of `pcbench.report.figures.build` as ``figures/*.{svg,pdf}``, ``paper.tex``, a document of them all, what DVC's views
    read (``headline.json`` and ``plots/*.csv``, see `pcbench.report.views`), and ``metrics.json`` under ``out``. All of it
    is made before any of it is written, and each file replaces its predecessor in one step; tables, figures and plots of an
    earlier report are removed.

    Args:
        results: ``results/<profile>``: what the stages of `pcbench.params.STAGES` wrote.
        out: the folder of the report.
        profile: the profile's name.
        parameters: see `pcbench.params.load`; what they list is what is reported.
        libraries: the sources of what `pcbench.report.peers.read` returned, for Table 6.

    Returns:
        The content of ``metrics.json``, see `pcbench.report.metrics.summarise`; with ``claims``, see
        `pcbench.report.claims.judge`.

    Raises:
        InvalidParameters: there is no such profile.
        ResultError: a result is missing, unreadable, of another form, or made with other parameters.
        PCBenchError: ``out`` cannot be written to.
    """
    out = Path(out)
    for name in ("index.html", "metrics.json", "headline.json", "paper.tex", "tables", "figures", "plots"):
        check_writable(out / name)
    tasks, zoo, scaling, summary, built = _made(results, profile, parameters, libraries)
    drawings = figures.build(tasks, parameters["rules"], scaling)
    sources = [*(source for task in tasks for source in task.sources), *zoo, *scaling, *libraries]
    files = {"index.html": page.render(tasks, sources, summary, built, drawings, parameters)}
    for each in built:
        for suffix, write in table.FORMATS.values():
            files[f"tables/{each.name}.{suffix}"] = write(each)
    files |= {f"plots/{name}.csv": text for name, text in views.curves(tasks).items()}
    files["headline.json"] = json_text(views.headline(summary))
    drawn = {drawing.name: drawing.figure() for drawing in drawings}
    files |= {f"figures/{name}.svg": figures.svg(figure) for name, figure in drawn.items()}
    files["paper.tex"] = paper.document(built, drawings, summary)
    summary_text = json_text(summary)
    plates = {f"figures/{name}.pdf": figures.pdf(figure) for name, figure in drawn.items()}
    for name, text in files.items():
        write_text(out / name, text)
    for name, content in plates.items():
        with atomic(out / name) as temporary:
            temporary.write_bytes(content)
    for path in [*out.glob("tables/*"), *out.glob("figures/*"), *out.glob("plots/*")]:
        if path.is_file() and path.relative_to(out).as_posix() not in files | plates:
            path.unlink()
    # Last: whoever reads it may take the rest for complete.
    write_text(out / "metrics.json", summary_text)
    return summary


def one_table(
    results: str | Path,
    profile: str,
    parameters: Parameters,
    which: str,
    form: str,
    libraries: Sequence[Source] = (),
) -> str:
    """Return one table on one profile's results as text; nothing is written.

    Args:
        results, profile, parameters, libraries: see `build`.
        which: the table's number or name.
        form: one of `pcbench.report.table.FORMATS`.

    Raises:
        InvalidParameters: there is no such profile, table or format.
        ResultError: see `build`.
    """
    if form not in table.FORMATS:
        raise InvalidParameters(f"there is no format {form!r}; there are: {', '.join(table.FORMATS)}")
    *_, built = _made(results, profile, parameters, libraries)
    return table.FORMATS[form][1](table.found(built, which))


def _made(results, profile, parameters, libraries):
    """What tables, figures and page are made of: results, their summary, and the tables."""
    tasks, zoo = read(results, parameters, profile), read_zoo(results, parameters, profile)
    scaling = read_scaling(results, parameters, profile)
    summary = metrics.summarise(tasks, profile, zoo, scaling, libraries)
    summary["parameters_sha256"] = digest(params.of_profile(parameters, profile))
    summary["claims"] = claims.judge(summary)
    built = tables.build(tasks, summary, parameters["rules"], zoo, scaling, libraries)
    return tasks, zoo, scaling, summary, built
