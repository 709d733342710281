"""What is demanded of the engines, and whether it is reached: requirements, measured rows, and their Markdown.

A requirement is one line of the table in the issue that asked for the engines. Its rows are the cases that were
measured for it, or that could not be, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from accel.bench.contest import Spread, geometric_mean

_LIMIT = "memcpy"
REACHED, MISSED, NOT_MEASURED = "reached", "missed", "not measured"


@dataclass(frozen=True)
class Requirement:
    """A demand.

    Attributes
    ----------
    name
        Key of its rows.
    text
        As it was demanded.
    mean
        Least geometric mean of the rows' ratios; 0 = none is demanded.
    """

    name: str
    text: str
    mean: float = 0.0


REQUIREMENTS: dict[str, tuple[Requirement, ...]] = {
    "fec": (
        Requirement("encode-l2", "RS encode, 1,200 B, 48 blocks (L2), vs ISA-L 2.32 with GFNI", mean=1.25),
        Requirement("encode-l2-debian", "the same vs Debian's ISA-L 2.30", mean=3.0),
        Requirement("encode-l3", "RS encode, 256 blocks (L3), vs ISA-L 2.32", mean=1.0),
        Requirement("decode", "RS decode, m losses, a fresh pattern in every block, vs ISA-L inverting for each block"),
        Requirement("pyeclib", "(10,4) vs pyeclib with ISA-L"),
        Requirement("inner-loop", "inner loop vs a bare affine-and-xor loop, L1-resident"),
        Requirement("avx2", "AVX2-only kernel vs ISA-L's AVX2 kernel, (10,4)"),
        Requirement("swar", "SWAR fallback vs zfec, (10,4)"),
        Requirement("fec-masked", "for information: the kernel alone, other instruction sets"),
    ),
    "aead": (
        Requirement("aes-128", "AES-128-GCM + header protection, 1,350 B, batch 64, vs ipsec-mb"),
        Requirement("aes-128-evp", "the same vs an OpenSSL EVP loop"),
        Requirement("aes-256", "AES-256-GCM vs ipsec-mb"),
        Requirement("chacha20", "ChaCha20-Poly1305 vs OpenSSL EVP"),
        Requirement("aead-masked", "for information: other instruction sets, many keys"),
    ),
    "crc": (Requirement("crc", "for information: CRC-32C of a unit, by vectors vs by the CRC instruction"),),
    "cost": (
        Requirement("batch-1", "AEAD at batch 1, per packet"),
        Requirement("registry", "registry overhead per batch"),
        Requirement("process", "process with the compiled engines loaded (no numba)"),
    ),
}


@dataclass(frozen=True)
class Row:
    """One case.

    Attributes
    ----------
    requirement
        Name of its requirement.
    case
        E.g. ``"(10,4)"``.
    unit
        ``"x"`` for ratios, of which more is better; otherwise less is.
    measured
        None when it could not be measured; ``reason`` says why.
    target
        What this row must reach by itself; None = nothing.
    engine, against
        Whose figure it is, and compared with what.
    rates
        Figures of all that took part, by name; ``rate_unit`` is theirs.
    repeated
        Samples of its contest that other processes interrupted and that were taken again.
    """

    requirement: str
    case: str
    unit: str = "x"
    measured: Spread | None = None
    target: float | None = None
    engine: str = "simd"
    against: str = ""
    reason: str = ""
    rates: dict[str, float] = field(default_factory=dict)
    rate_unit: str = ""
    repeated: int = 0

    @property
    def verdict(self) -> str:
        """Whether the target is reached; empty without a target."""
        if self.measured is None:
            return NOT_MEASURED
        if self.target is None:
            return ""
        value = self.measured.median
        return REACHED if (value >= self.target if self.unit == "x" else value <= self.target) else MISSED

    def document(self) -> dict[str, object]:
        """Return it as JSON."""
        return {
            "case": self.case,
            "engine": self.engine,
            "against": self.against,
            "unit": self.unit,
            "measured": None if self.measured is None else self.measured.document(),
            "target": self.target,
            "verdict": self.verdict,
            "reason": self.reason,
            "rates": {name: round(value, 3) for name, value in self.rates.items()},
            "rate_unit": self.rate_unit,
            "repeated_samples": self.repeated,
        }


@dataclass(frozen=True)
class Judgement:
    """A requirement with its rows; ``mean`` is None when none is demanded or a row is missing."""

    requirement: Requirement
    rows: tuple[Row, ...]

    @property
    def mean(self) -> float | None:
        """Return the geometric mean that was demanded."""
        if not self.requirement.mean or not self.rows:
            return None
        values = [row.measured.median for row in self.rows if row.measured is not None]
        return geometric_mean(values) if len(values) == len(self.rows) else None

    @property
    def verdict(self) -> str:
        """Reached when every row with a target reaches it, and the mean does; empty when nothing was demanded."""
        verdicts = [row.verdict for row in self.rows if row.target is not None]
        if self.requirement.mean:
            if self.mean is None:
                verdicts.append(NOT_MEASURED)
            else:
                verdicts.append(REACHED if self.mean >= self.requirement.mean else MISSED)
        for verdict in (MISSED, NOT_MEASURED, REACHED):
            if verdict in verdicts:
                return verdict
        return ""

    def document(self) -> dict[str, object]:
        """Return it as JSON."""
        return {
            "requirement": self.requirement.name,
            "text": self.requirement.text,
            "mean_target": self.requirement.mean or None,
            "mean": None if self.mean is None else round(self.mean, 3),
            "verdict": self.verdict,
            "rows": [row.document() for row in self.rows],
        }


def judge(areas: Sequence[str], rows: Sequence[Row]) -> list[Judgement]:
    """Return every requirement of some areas with its rows.

    Raises
    ------
    ValueError
        When a row belongs to none of them.
    """
    requirements = [requirement for area in areas for requirement in REQUIREMENTS[area]]
    names = {requirement.name for requirement in requirements}
    strange = sorted({row.requirement for row in rows} - names)
    if strange:
        raise ValueError(f"rows of no requirement: {', '.join(strange)}")
    return [
        Judgement(requirement, tuple(row for row in rows if row.requirement == requirement.name))
        for requirement in requirements
    ]


def markdown(judgements: Sequence[Judgement]) -> str:
    """Return the tables: the requirements, then every row but those that nobody demanded and nothing measured."""
    lines = ["| requirement | demanded | measured | |", "|---|---|---|---|"]
    lines += [
        f"| {each.requirement.text} | {_demanded(each)} | {_found(each)} | {_mark(each.verdict)} |"
        for each in judgements
    ]
    lines += ["", "| | case | against | median (quartiles) | target | | rates |", "|---|---|---|---|---|---|---|"]
    for each in judgements:
        told = [row for row in each.rows if row.measured is not None or row.target is not None]
        lines += [f"| {each.requirement.name} | {_cells(row)} |" for row in told]
    return "\n".join(lines) + "\n"


def _mark(verdict: str) -> str:
    return f"**{verdict}**" if verdict == MISSED else verdict


def _amount(value: float, unit: str) -> str:
    digits = 2 if unit in ("x", "us", "s") else 1
    return f"{value:.{digits}f}{'x' if unit == 'x' else f' {unit}'}"


def _demanded(judgement: Judgement) -> str:
    parts = [f"mean {judgement.requirement.mean:.2f}x"] if judgement.requirement.mean else []
    targets = {(row.target, row.unit): row.case for row in judgement.rows if row.target is not None}
    for (target, unit), case in targets.items():
        where = f" {case}" if len(targets) > 1 else ""
        parts.append(f"{'' if unit == 'x' else '<= '}{_amount(target or 0.0, unit)}{where}")
    return ", ".join(parts) or "-"


def _found(judgement: Judgement) -> str:
    parts = [] if judgement.mean is None else [f"mean {judgement.mean:.2f}x"]
    told = [row for row in judgement.rows if row.target is not None or judgement.requirement.mean]
    parts += [f"{row.case} {_amount(row.measured.median, row.unit)}" for row in told if row.measured is not None]
    parts += sorted({row.reason for row in told if row.measured is None})
    return ", ".join(parts) or "-"


def _cells(row: Row) -> str:
    if row.measured is None:
        value = row.reason
    else:
        value = f"{_amount(row.measured.median, row.unit)} ({row.measured.low:.2f}-{row.measured.high:.2f})"
    target = "-" if row.target is None else _amount(row.target, row.unit)
    shown = {name: row.rates[name] for name in (row.engine, row.against, _LIMIT) if name in row.rates}
    rates = ", ".join(f"{name} {rate:.3g}" for name, rate in (shown or row.rates).items())
    subject = f"{row.engine} vs {row.against}" if row.against else row.engine
    return f"{row.case} | {subject} | {value} | {target} | {_mark(row.verdict)} | {rates} {row.rate_unit}".rstrip()
