"""Model card: how a model was made, in the folder it lies in, with the exact command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.store.records import read_json, write_text
from align.store.redact import redact

if TYPE_CHECKING:
    from align.recipes.settings.common import RecipeSettings


def write_card(folder: Path, recipe: str, settings: RecipeSettings, result: Mapping[str, Any]) -> None:
    """Write `README.md` into the run folder."""
    run = read_json(folder / "run.json")
    fingerprints = "\n".join(f"- {name}: `{value}`" for name, value in run["identity_of"]["data"].items())
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    lines = [
        f"# {folder.name}",
        "",
        f"{recipe} of `{settings.model}` on `{settings.train_data}`.",
        "",
        "```bash",
        run["command"],
        "```",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name.replace('_', ' ')} | {_shown(value)} |" for name, value in result.items()),
        "",
        "Data (sha256):",
        "",
        fingerprints,
        "",
        f"Model (sha256): `{run['identity_of']['model']}`",
        "",
        f"Made with {versions}; git: {run['git'] or 'none'}. All settings: `config.yaml`.",
        "",
    ]
    write_text(folder / "README.md", redact("\n".join(lines)))


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
