"""Reading a SpanJob from compiled code, and the checks that both operations make.

Whether something is negative is asked of many numbers at once, by their sign bits: numbers of a job are 32 bits wide,
so no sum of a few of them overflows 64.
"""

from __future__ import annotations

from accel.engine import SpanJob
from accel.gf256 import COLUMNS
from accel.ir import fec_work as work
from accel.ir.fec_code import Code, Values


class Job:
    """Columns of a job, by the name of the field."""

    def __init__(self, code: Code, context: str = "%context") -> None:
        self._code = code
        self._context = context

    def column(self, name: str) -> str:
        """Return where a column begins."""
        return self._code.load("ptr", self._word(2 * SpanJob._fields.index(name)))

    def elements(self, name: str) -> str:
        """Return how many elements it has."""
        return self._code.load("i64", self._word(2 * SpanJob._fields.index(name) + 1))

    def number(self, name: str, span: str) -> str:
        """Return element ``span`` of an int32 column as an i64."""
        return self._code.element("i32", self.column(name), span, "i64", signed=True)

    def _word(self, index: int) -> str:
        return self._code.at(self._context, index, "i64")


class Span:
    """Numbers of one span, and tests of them."""

    def __init__(self, code: Code) -> None:
        self._code, self.job = code, Job(code)
        job = self.job
        self.k, self.m, self.length, self.column = (
            job.number(name, "%span") for name in ("k", "m", "length", "column")
        )
        self.data_start, self.parity_start = job.number("data_start", "%span"), job.number("parity_start", "%span")
        self.limit = code.set(f"sub i64 {job.elements('memory')}, {self.length}")
        self.data = code.at(job.column("data"), self.data_start, "i64")
        self.parity = code.at(job.column("parity"), self.parity_start, "i64")
        self.rows = code.at(job.column("row"), self.parity_start)
        self.lost = code.at(job.column("lost"), self.parity_start)

    def described(self, *columns: str) -> str:
        """Return whether the descriptors lie in the job's columns (``columns`` = those with a byte for each parity)."""
        code, job = self._code, self.job
        numbers = [self.m, self.length, self.limit, self.data_start, self.parity_start]
        numbers.append(code.set(f"sub i64 {self.k}, 1"))
        numbers.append(code.set(f"sub i64 {COLUMNS}, {self.k}"))
        data_end = code.set(f"add i64 {self.data_start}, {self.k}")
        parity_end = code.set(f"add i64 {self.parity_start}, {self.m}")
        numbers.append(code.set(f"sub i64 {job.elements('data')}, {data_end}"))
        numbers += [code.set(f"sub i64 {job.elements(name)}, {parity_end}") for name in ("parity", *columns)]
        return self.none_negative(numbers)

    def outside(self, offset: str, before: str) -> str:
        """Return ``before``, made negative when a unit does not lie in the memory."""
        code = self._code
        both = code.set(f"or i64 {code.set(f'sub i64 {self.limit}, {offset}')}, {offset}")
        return code.set(f"or i64 {both}, {before}")

    def take(self, lines: int) -> str:
        """Write the sources into the working area, in their order; return an i64, negative if one is outside.

        The first ``lines`` of 64 bytes of each are asked for meanwhile; a prefetch from a wrong address does nothing.
        """
        code = self._code
        line = code.set(f"mul i64 {code.set(f'sub i64 {self.k}, 1')}, {COLUMNS}")
        order, own = code.at("@orders", line), code.at("%work", work.OWN_SOURCES)
        base = self.job.column("memory")
        code.store("ptr", order, code.at("%work", work.ORDER))
        code.store("ptr", own, code.at("%work", work.SOURCES))

        def unit(j: str, state: Values) -> Values:
            offset = code.element("i64", self.data, j)
            code.store("i64", offset, code.at(own, code.element("i8", order, j, "i64"), "i64"))
            self.fetch(code.at(base, offset), lines)
            return [self.outside(offset, state[0])]

        return code.loop(0, self.k, [("i64", "0")], unit)[0]

    def fetch(self, unit: str, lines: int) -> None:
        """Ask for the first lines of a unit."""
        for line in range(lines):
            self._code.do(f"call void @llvm.prefetch.p0(ptr {self._code.at(unit, 64 * line)}, i32 0, i32 3, i32 1)")

    def none_negative(self, numbers: Values) -> str:
        """Return whether all numbers are at least 0."""
        code, together = self._code, numbers[0]
        for each in numbers[1:]:
            together = code.set(f"or i64 {together}, {each}")
        return code.set(f"icmp sge i64 {together}, 0")


def both(code: Code, *conditions: str) -> str:
    """Return whether all conditions hold."""
    together = conditions[0]
    for each in conditions[1:]:
        together = code.set(f"and i1 {together}, {each}")
    return together
