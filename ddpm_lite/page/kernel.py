"""The WebAssembly kernel of the page's networks, in f32x4. Writes kernel.wasm.

    python -m ddpm_lite.page.kernel     (needs wasmtime, which assembles the text)

`gemmR` takes R rows at once: C[R, N] += A[R, K] B, with B in panels [N / 4, K, 4]. `silu` takes
pixels [pixels, N] to silu(x scale + shift). The file holds the module twice: the second, in the
custom section "fused" of the first, multiplies and adds in one instruction where the browser has
it (relaxed SIMD), which is nearly twice as fast.
"""

from __future__ import annotations

from pathlib import Path

from ddpm_lite.files import write_whole

HERE = Path(__file__).parent
ROWS = (7, 4, 1)
UNROLL = 4  # steps of the loop over K in one turn
LN_2 = 0.6931471805599453


def text(fused: bool) -> str:
    """The module as WebAssembly text."""
    functions = "\n".join([*(_gemm(rows, fused) for rows in ROWS), _silu(fused)])
    return f'(module (import "page" "memory" (memory 1))\n{functions})\n'


def assembled() -> bytes:
    """The bytes of both modules."""
    from wasmtime import wat2wasm

    inner = "".join(f"\\{byte:02x}" for byte in wat2wasm(text(True)))
    outer = text(False).removesuffix(")\n") + f'\n(@custom "fused" "{inner}"))\n'
    return bytes(wat2wasm(outer))


def _gemm(rows: int, fused: bool) -> str:
    """Four columns of C stay in registers while K goes by. All but K and N are bytes."""
    each = range(rows)
    first = ["(local.get $A)", *(_plus(f"$a{r - 1}", "$lda") for r in each[1:])]
    lines = [
        f'(func (export "gemm{rows}") (param $A i32) (param $lda i32) (param $B i32)',
        "(param $C i32) (param $ldc i32) (param $K i32) (param $N i32)",
        "(local $b v128) (local $end i32) (local $most i32) (local $c i32)",
        *(f"(local $a{r} i32) (local $c{r} v128)" for r in each),
        "(loop $columns",
        *(f"(local.set $a{r} {first[r]})" for r in each),
        *_rows(rows, "(local.set $c{r} (v128.load (local.get $c)))"),
        "(local.set $end (i32.add (local.get $a0) (i32.shl (local.get $K) (i32.const 2))))",
        f"(local.set $most {_plus('$end', 4 - 4 * UNROLL)})",
        *_while("$most", rows, UNROLL, fused),
        *_while("$end", rows, 1, fused),
        *_rows(rows, "(v128.store (local.get $c) (local.get $c{r}))"),
        f"(local.set $C {_plus('$C', 16)})",
        f"(local.set $N {_plus('$N', -4)})",
        "(br_if $columns (i32.gt_s (local.get $N) (i32.const 0)))))",
    ]
    return "\n".join(lines)


def _rows(rows: int, line: str) -> list[str]:
    """The line for each row of C, with $c where the row is."""
    lines = ["(local.set $c (local.get $C))"]
    for r in range(rows):
        lines += [line.format(r=r), f"(local.set $c {_plus('$c', '$ldc')})"]
    return lines[:-1]


def _while(end: str, rows: int, turns: int, fused: bool) -> list[str]:
    """While A has not come to ``end``: so many steps over K, of each row."""
    name = f"$by{turns}"
    lines = [f"(block {name}_done (loop {name}"]
    lines += [f"(br_if {name}_done (i32.ge_s (local.get $a0) (local.get {end})))"]
    for k in range(turns):
        lines.append(f"(local.set $b (v128.load offset={16 * k} (local.get $B)))")
        for r in range(rows):
            a = f"(v128.load32_splat offset={4 * k} (local.get $a{r}))"
            lines.append(
                f"(local.set $c{r} {_madd(a, '(local.get $b)', f'(local.get $c{r})', fused)})"
            )
    lines += [f"(local.set $a{r} {_plus(f'$a{r}', 4 * turns)})" for r in range(rows)]
    return [*lines, f"(local.set $B {_plus('$B', 16 * turns)})", f"(br {name})))"]


def _silu(fused: bool) -> str:
    """v / (1 + exp(-v)), with exp(-v) = 2^k 2^f and 2^f by its Taylor series, |f| <= 1/2."""
    f, series, factor = "(local.get $f)", _number(0.0), 1.0
    terms = [1.0]
    for n in range(1, 8):
        factor *= LN_2 / n
        terms.append(factor)
    for term in reversed(terms):
        series = _madd(series, f, _number(term), fused)
    v = _madd(
        "(v128.load (local.get $x))",
        "(v128.load (i32.add (local.get $scale) (local.get $i)))",
        "(v128.load (i32.add (local.get $shift) (local.get $i)))",
        fused,
    )
    power = (
        "(i32x4.shl (i32x4.add (i32x4.trunc_sat_f32x4_s (local.get $k))"
        " (i32x4.splat (i32.const 127))) (i32.const 23))"
    )
    lines = [
        '(func (export "silu") (param $x i32) (param $o i32) (param $scale i32) (param $shift i32)',
        "(param $pixels i32) (param $n i32)",
        "(local $i i32) (local $v v128) (local $f v128) (local $k v128)",
        "(loop $pixel (local.set $i (i32.const 0)) (loop $channel",
        f"(local.set $v {v})",
        f"(local.set $f (f32x4.mul (local.get $v) {_number(-1 / LN_2)}))",
        f"(local.set $f (f32x4.max (f32x4.min {f} {_number(126.0)}) {_number(-126.0)}))",
        f"(local.set $k (f32x4.nearest {f})) (local.set $f (f32x4.sub {f} (local.get $k)))",
        f"(local.set $f (f32x4.mul {series} {power}))",
        f"(v128.store (local.get $o) (f32x4.div (local.get $v) (f32x4.add {f} {_number(1.0)})))",
        *(f"(local.set {name} {_plus(name, 16)})" for name in ("$x", "$o", "$i")),
        "(br_if $channel (i32.lt_s (local.get $i) (local.get $n))))",
        f"(local.set $pixels {_plus('$pixels', -1)})",
        "(br_if $pixel (i32.gt_s (local.get $pixels) (i32.const 0)))))",
    ]
    return "\n".join(lines)


def _madd(a: str, b: str, c: str, fused: bool) -> str:
    """a b + c."""
    return f"(f32x4.relaxed_madd {a} {b} {c})" if fused else f"(f32x4.add {c} (f32x4.mul {a} {b}))"


def _number(value: float) -> str:
    return f"(f32x4.splat (f32.const {value!r}))"


def _plus(name: str, other: str | int) -> str:
    more = f"(local.get {other})" if isinstance(other, str) else f"(i32.const {other})"
    return f"(i32.add (local.get {name}) {more})"


def main() -> None:
    write_whole(HERE / "kernel.wasm", assembled())


if __name__ == "__main__":
    main()
