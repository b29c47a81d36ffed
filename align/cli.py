"""The `align` command: thin verbs over the modules that do the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align.errors import ConfigError
from align.settings.command import exit_code_of
from align.settings.names import BUILDERS, FORMATS, RECIPES

app = typer.Typer(
    name="align",
    help="Preference data from a teacher, training on it, and proof of whether it helped.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
recipes = typer.Typer(help="The YAML files that come with the package.", no_args_is_help=True)
app.add_typer(recipes, name="recipes")

Words = Annotated[list[str] | None, typer.Argument(help="FILE.yaml and key=value settings, in any order.")]


def main() -> None:
    """Entry point of the console script."""
    app()


@app.command(context_settings={"ignore_unknown_options": True})
def build(
    builder: Annotated[str, typer.Argument(help=f"One of {', '.join(BUILDERS)}.")],
    words: Words = None,
) -> None:
    """Build a dataset: preference pairs, or tasks with checkable answers. --plan says what it will cost."""
    raise typer.Exit(_run_class("builder", BUILDERS, builder, words))


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help=f"One of {', '.join(RECIPES)}.")],
    words: Words = None,
) -> None:
    """Train a model."""
    raise typer.Exit(_run_class("recipe", RECIPES, recipe, words))


@app.command()
def compare(
    run: Annotated[str, typer.Argument(help="Folder of a finished run whose settings have a compare section.")],
    words: Annotated[
        list[str] | None, typer.Argument(help="key=value for that section, samples=4 for example.")
    ] = None,
) -> None:
    """Show on held-out prompts what a run did; exit code 7 when the model is damaged."""

    def command() -> None:
        from align.errors import DamageFound
        from align.evaluation.run import compare as run_comparison

        result = run_comparison(run, words or ())
        if result.verdict.is_damaged:
            raise DamageFound(f"{run}: the trained model is damaged; the report is complete")

    raise typer.Exit(exit_code_of(command))


@app.command(context_settings={"ignore_unknown_options": True})
def judge(
    file: Annotated[Path, typer.Argument(help="Preference pairs whose chosen side a person prefers.")],
    words: Annotated[
        list[str] | None, typer.Argument(help="FILE.yaml and key=value: teacher.model=…, criteria=… and others.")
    ] = None,
    injections: Annotated[
        bool, typer.Option("--injections", help="Also try orders hidden in answers on the first pairs.")
    ] = False,
) -> None:
    """Show how well a judge agrees with people, and what length, position and hidden orders do to it."""

    def command() -> None:
        from align.judges.trust.calibrate_file import CalibrationSettings, judge_file
        from align.settings.base import load_settings
        from align.settings.command import parse_words

        line = parse_words(words or ())
        judge_file(file, load_settings(CalibrationSettings, line.path, line.words), injections)

    raise typer.Exit(exit_code_of(command))


@app.command()
def lint(
    file: Annotated[Path, typer.Argument(help="Rows: data/mine/pairs.jsonl for example.")],
    words: Annotated[
        list[str] | None, typer.Argument(help="key=value settings, max_similarity=0.95 for example.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write the rows that stay to this file, and the others beside it.")
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="File whose prompts must not be among the rows; may be repeated.")
    ] = None,
    instruction: Annotated[
        Path | None, typer.Option(help="File with the instruction that must not stand in an answer.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Show the first rows as this model's tokens, with the loss mask; nothing else.")
    ] = None,
    rows: Annotated[int, typer.Option(help="With --tokens: how many rows to show.", min=1)] = 3,
    ids: Annotated[bool, typer.Option("--ids", help="With --tokens: show the token ids too.")] = False,
) -> None:
    """Find rows that cannot teach or stand twice, and what leaks; exit code 3 when rows would have to go."""

    def command() -> None:
        if tokens is not None:
            from align.training.rows.view import print_tokens

            return print_tokens(tokens, file, rows, ids)
        from align.data.lint.file import lint_file
        from align.data.lint.rules import LintSettings
        from align.settings.base import load_settings

        settings = load_settings(LintSettings, None, words or ())
        lint_file(file, settings, write=write, against=against or (), instruction=instruction)

    raise typer.Exit(exit_code_of(command))


@app.command()
def ledger(
    file: Annotated[Path, typer.Argument(help="The ledger of a dataset, data/ledger.sqlite for example.")],
    export: Annotated[
        Path | None, typer.Option(help="Write every recorded answer to this new file, as JSON lines.")
    ] = None,
) -> None:
    """Show what teachers were paid, by run, model and day, and what has an unknown outcome."""

    def command() -> None:
        from align.teachers.ledger import report as ledger_report

        if export is None:
            ledger_report.print_ledger(file)
        else:
            typer.echo(f"{export}: {ledger_report.export(file, export):,} answers and failed calls")

    raise typer.Exit(exit_code_of(command))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="File of another library, or of align: .jsonl, .json or .parquet.")],
    target: Annotated[Path, typer.Argument(help="File to write; its suffix says which kind. Never overwritten.")],
    to: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")],
    given: Annotated[str | None, typer.Option("--from", help="Format of the source; left out, told from it.")] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Go on without rows that cannot be carried over.")] = False,
) -> None:
    """Convert preference rows from and to the files of other libraries. Nothing is left out in silence."""

    def command() -> None:
        from align.data import convert as converter

        converter.print_conversion(converter.convert(source, target, to, given, drop))

    raise typer.Exit(exit_code_of(command))


@app.command()
def review(
    dataset: Annotated[Path, typer.Argument(help="Folder with pairs.jsonl, or a file of pairs.")],
    terminal: Annotated[bool, typer.Option("--terminal", help="Ask here, one key an answer.")] = False,
    apply: Annotated[
        Path | None, typer.Option(help="Write the corrected pairs to this file: wrong ones swapped, ties set aside.")
    ] = None,
) -> None:
    """Check pairs by hand, and learn how many of the others are wrong."""

    def command() -> None:
        if terminal == (apply is not None):
            raise ConfigError(
                "align review needs one of --terminal (label pairs) and --apply OUT.jsonl (use the labels)"
            )
        if apply is None:
            from align.review.terminal import review as review_here

            review_here(dataset)
        else:
            from align.review.apply import apply_labels, print_applied

            print_applied(apply_labels(dataset, apply))

    raise typer.Exit(exit_code_of(command))


@app.command()
def verify(
    model: Annotated[
        str, typer.Argument(help="Any name that a recipe takes; left out, the embedded model.")
    ] = "embedded:smollm2-135m",
    compute: Annotated[str, typer.Option(help="Arithmetic of the runs to come: float32 or bfloat16.")] = "bfloat16",
) -> None:
    """Prove losses and the fast route on this machine, with its versions and a model; exit code 8 when one is wrong."""

    def command() -> None:
        if compute not in ("float32", "bfloat16"):
            raise ConfigError(f"--compute must be float32 or bfloat16, but is {compute!r}")
        from align.training.verify.verify import verify as run_verification

        run_verification(model, "float32" if compute == "float32" else "bfloat16")

    raise typer.Exit(exit_code_of(command))


@recipes.command("list")
def list_recipes() -> None:
    """Name every shipped file, with its first line and its command."""
    from align.settings.shipped import shipped_files

    for name, path in shipped_files().items():
        lines = [line.removeprefix("#").strip() for line in path.read_text(encoding="utf-8").splitlines()[:3]]
        typer.echo(f"{name}\n    {lines[0]}\n    {lines[2]}")


@recipes.command("show")
def show_recipe(name: Annotated[str, typer.Argument(help="As `align recipes list` names it.")]) -> None:
    """Print a shipped file."""

    def command() -> None:
        from align.settings.shipped import shipped_file

        typer.echo(shipped_file(name).read_text(encoding="utf-8"), nl=False)

    raise typer.Exit(exit_code_of(command))


@recipes.command("copy")
def copy_recipe(
    name: Annotated[str, typer.Argument(help="As `align recipes list` names it.")],
    target: Annotated[Path | None, typer.Argument(help="Where to; left out, the same name here.")] = None,
) -> None:
    """Copy a shipped file to edit it. An existing file is never overwritten."""

    def command() -> None:
        from align.settings.shipped import shipped_file
        from align.store.whole_file import must_be_new, whole_file

        source = shipped_file(name)
        path = target or Path(name)
        path = path / source.name if path.is_dir() else path
        must_be_new(path)
        with whole_file(path) as file:
            file.write(source.read_bytes())
        typer.echo(f"copied to {path}")

    raise typer.Exit(exit_code_of(command))


def _run_class(kind: str, classes: dict[str, str], name: str, words: list[str] | None) -> int:
    def command() -> None:
        from align.settings.base import did_you_mean

        if name not in classes:
            hint = did_you_mean(name, list(classes))
            raise ConfigError(f"{name} is not a {kind}; there are {', '.join(classes)}{hint}")

    code = exit_code_of(command)
    if code:
        return code
    from align.settings.dotted import load_object

    return int(load_object(classes[name]).main(words or []))


if __name__ == "__main__":
    main()
