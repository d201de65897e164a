"""Which prices this process charges: those shipped with the build, or a file named by AI_AGENTS_PRICES."""

from __future__ import annotations

import os
from pathlib import Path

from analytics.prices import PriceBook, PriceError, packaged

VARIABLE = "AI_AGENTS_PRICES"


def price_book() -> PriceBook:
    """The price book in force, read once at a stage's start. Raises PriceError, naming the file, when it cannot be read."""
    if not (chosen := os.environ.get(VARIABLE)):
        return packaged()
    try:
        return PriceBook.parse(Path(chosen).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise PriceError(f"{VARIABLE}: {chosen} cannot be read: {exc}") from exc
    except PriceError as exc:
        raise PriceError(f"{VARIABLE}: {chosen}: {exc}") from exc
