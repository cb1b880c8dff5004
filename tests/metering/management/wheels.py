"""Small wheels of the package that carries the catalogue of prices, as pip and Python take them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

MEMBER = "litellm/model_prices_and_context_window_backup.json"
PRICES: dict[str, Any] = {
    "sample_spec": {"input_cost_per_token": 0.0, "max_tokens": "set to the most it takes"},
    "gpt-4o": {
        "input_cost_per_token": 2.5e-06,
        "output_cost_per_token": 1e-05,
        "cache_read_input_token_cost": 1.25e-06,
        "litellm_provider": "openai",
    },
    "gpt-4o-mini": {"input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07},
    "long-1": {"input_cost_per_token": 3e-06, "input_cost_per_token_above_200k_tokens": 6e-06},
    "dall-e": {"output_cost_per_image": 0.04},
    "odd": {"input_cost_per_token": "ask us", "output_cost_per_token": 1e-06},
}


def contents(version: str, prices: dict[str, Any] | None) -> dict[str, str]:
    """Path -> text of what such a wheel holds."""
    info = f"litellm-{version}.dist-info"
    found = {
        # Whoever imports this instead of reading it as data is found out.
        "litellm/__init__.py": "raise AssertionError('imported')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: litellm\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if prices is not None:
        found[MEMBER] = json.dumps(prices)
    return found | {f"{info}/RECORD": ""}


def build(folder: Path, *, version: str = "9.8.7", prices: dict[str, Any] | None = PRICES) -> Path:
    """A wheel in that folder."""
    path = folder / f"litellm-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in contents(version, prices).items():
            wheel.writestr(name, text)
    return path


def install(
    folder: Path, *, version: str = "9.8.7", prices: dict[str, Any] | None = PRICES
) -> None:
    """The same, as it lies in a folder of installed packages."""
    for name, text in contents(version, prices).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
