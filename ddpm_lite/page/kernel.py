"""The WebAssembly kernel of the page's networks: C += A B, in f32x4. Writes kernel.wat, .wasm.

    python -m ddpm_lite.page.kernel     (needs wasmtime, which assembles the text)

`gemmR` takes R rows of A and C at once: C[R, N] += A[R, K] B, with B in panels [N / 4, K, 4].
"""

from __future__ import annotations

from pathlib import Path

from ddpm_lite.files import write_whole

HERE = Path(__file__).parent
ROWS = (7, 4, 1)
UNROLL = 4  # steps of the loop over K in one turn


def text() -> str:
    """The module as WebAssembly text."""
    functions = "\n".join(_gemm(rows) for rows in ROWS)
    return f'(module (import "page" "memory" (memory 1))\n{functions})\n'


def assembled() -> bytes:
    """The module's bytes."""
    from wasmtime import wat2wasm  # type: ignore[import-not-found]

    return bytes(wat2wasm(text()))


def _gemm(rows: int) -> str:
    """Four columns of C stay in registers while K goes by. All but K and N are bytes."""
    each = range(rows)
    lines = [
        f'(func (export "gemm{rows}") (param $A i32) (param $lda i32) (param $B i32)',
        "(param $C i32) (param $ldc i32) (param $K i32) (param $N i32)",
        "(local $b v128) (local $end i32) (local $most i32) (local $c i32)",
        *(f"(local $a{r} i32) (local $c{r} v128)" for r in each),
        "(loop $columns",
        *(
            f"(local.set $a{r} {_plus(f'$a{r - 1}', '$lda') if r else '(local.get $A)'})"
            for r in each
        ),
        *_rows(rows, "(local.set $c{r} (v128.load (local.get $c)))"),
        "(local.set $end (i32.add (local.get $a0) (i32.shl (local.get $K) (i32.const 2))))",
        f"(local.set $most {_plus('$end', 4 - 4 * UNROLL)})",
        *_while("$most", rows, UNROLL),
        *_while("$end", rows, 1),
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


def _while(end: str, rows: int, turns: int) -> list[str]:
    """While A has not come to ``end``: so many steps over K, of each row."""
    name = f"$by{turns}"
    lines = [f"(block {name}_done (loop {name}"]
    lines += [f"(br_if {name}_done (i32.ge_s (local.get $a0) (local.get {end})))"]
    for k in range(turns):
        lines.append(f"(local.set $b (v128.load offset={16 * k} (local.get $B)))")
        for r in range(rows):
            a = f"(v128.load32_splat offset={4 * k} (local.get $a{r}))"
            lines.append(
                f"(local.set $c{r} (f32x4.add (local.get $c{r}) (f32x4.mul {a} (local.get $b))))"
            )
    lines += [f"(local.set $a{r} {_plus(f'$a{r}', 4 * turns)})" for r in range(rows)]
    return [*lines, f"(local.set $B {_plus('$B', 16 * turns)})", f"(br {name})))"]


def _plus(name: str, other: str | int) -> str:
    more = f"(local.get {other})" if isinstance(other, str) else f"(i32.const {other})"
    return f"(i32.add (local.get {name}) {more})"


def main() -> None:
    write_whole(HERE / "kernel.wat", text().encode())
    write_whole(HERE / "kernel.wasm", assembled())


if __name__ == "__main__":
    main()
