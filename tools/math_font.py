"""Make the book's mathematical font: STIX Two Math, cut down to what formulas need, and mended.

    npm pack @fontsource/stix-two-math@5.3.0 && tar xzf fontsource-stix-two-math-5.3.0.tgz
    python tools/math_font.py package/files/stix-two-math-latin-400-normal.woff2

writes book/_static/fonts/stix-two-math.woff2 with the characters of ALWAYS and those of the
formulas in _build/html. A test fails for a formula with a character that the font lacks: build the
book and run this again. The font's licence (OFL 1.1, no reserved name) lies beside it.
"""

from __future__ import annotations

import re
import sys
from html import unescape
from pathlib import Path
from typing import Any

from fontTools import subset
from fontTools.pens.recordingPen import DecomposingRecordingPen
from fontTools.pens.transformPen import TransformPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont
from fontTools.ttLib.tables import otTables
from fontTools.ttLib.tables._g_l_y_f import Glyph

ROOT = Path(__file__).resolve().parents[1]
FONT = ROOT / "book" / "_static" / "fonts" / "stix-two-math.woff2"
GREEK = "αβγδεζηθικλμνξοπρςστυφχψω"
LETTERS = {"A": 0x1D434, "a": 0x1D44E}  # where mathematical italics begin
ITALIC = {chr(ord(a) + k): chr(at + k) for a, at in LETTERS.items() for k in range(26)}
ITALIC |= {a: chr(0x1D6FC + k) for k, a in enumerate(GREEK)}
ITALIC |= {"h": "ℎ", "∂": "𝜕", "ϵ": "𝜖", "ϑ": "𝜗", "ϕ": "𝜙", "ϱ": "𝜚", "ϖ": "𝜛"}
CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ALWAYS = (
    "".join(chr(k) for k in range(0x20, 0x7F))
    + "".join([*ITALIC.values(), *GREEK, "ϵϑϕΓΔΘΛΞΠΣΦΨΩ"])
    + "".join(chr(0x1D400 + k) for k in range(52))  # bold
    + "".join(chr(0x1D49C + k) for k in range(26) if k not in (1, 4, 5, 7, 8, 11, 12, 17))
    + "ℬℰℱℋℐℒℳℛℝℂℕℤℚℙ𝔼𝟏𝟎𝟙"
    + "\u00a0¬¯±·×÷ˆ˜̂̃̄⃗–‖’′″‴…ℓ←↑→↓↔↦⇒⇔⟵⟶⟹⟺∀∂∃∅∇∈∉∏∑−∓∗∘√∝∞∣∥∧∨∩∪∫∼≃≈≔≠≡≤≥≪≫⊂⊆⊕⊗⊙⊤⊥⋅⋮⋯⋱⌈⌉⌊⌋⏞⏟⟨⟩"
)
FORMULA = re.compile(r"<math\b.*?</math>", re.DOTALL)
IDENTIFIER = re.compile(r"<mi>(.)</mi>")
TALLEST = 5  # variants of a bracket; beyond these it is put together
WIDTHS = {"√": 840, "[": 470, "]": 470, "{": 490, "}": 490}  # of tall ones, in thousandths
HEIGHTS = (1187, 1427, 1667, 1907, 2146)  # of tall bars: those of the brackets
BRACE = 80  # how much lower ⏟ is
PRIME = (1.45, 90)  # size and height of ′ where it is a superscript


def characters(html: str) -> set[str]:
    """What the browser draws for the formulas of a page; one-letter names are italic."""
    found: set[str] = set()
    for formula in FORMULA.findall(html):
        italic = IDENTIFIER.sub(lambda m: ITALIC.get(unescape(m[1]), m[1]), formula)
        found |= set(unescape(re.sub(r"<[^>]*>", "", italic)))
    return found - {"\u2061", "\u2062", "\u2063", "\n"}  # nothing is drawn for these


def constructions(font: TTFont) -> dict[str, Any]:
    """The tall variants of each character that has some: its glyph's record of the MATH table."""
    table = font["MATH"].table.MathVariants
    glyphs = table.VertGlyphCoverage.glyphs
    return dict(zip(glyphs, table.VertGlyphConstruction, strict=True))


def squeeze(font: TTFont, name: str, width: int) -> None:
    """Scale a glyph horizontally to this width."""
    glyph, (old, bearing) = font["glyf"][name], font["hmtx"][name]
    share = min(1.0, width / old)
    glyph.coordinates.scale((share, 1.0))
    glyph.coordinates.toInt()
    font["hmtx"][name] = (round(old * share), round(bearing * share))


def level_widths(font: TTFont) -> None:
    """Tall brackets and roots about as wide as low ones.

    A browser keeps room for the widest variant (MathML Core), which leaves a gap after a low root.
    """
    cmap, records = font.getBestCmap(), constructions(font)
    for character in "()[]{}√":
        record = records[cmap[ord(character)]]
        record.MathGlyphVariantRecord = record.MathGlyphVariantRecord[: TALLEST + 1]
        tall = [r.VariantGlyph for r in record.MathGlyphVariantRecord[1:]]
        parts = {part.glyph for part in record.GlyphAssembly.PartRecords}
        for name in {*tall, *parts} if character in WIDTHS else ():
            squeeze(font, name, WIDTHS[character])


def stretched(font: TTFont, name: str, height: int) -> Glyph:
    """A glyph of this height, as far above the axis as below it."""
    table, axis = font["glyf"], font["MATH"].table.MathConstants.AxisHeight.Value
    share = height / (table[name].yMax - table[name].yMin)
    pen = TTGlyphPen(None)
    outline = DecomposingRecordingPen(font.getGlyphSet())
    font.getGlyphSet()[name].draw(outline)
    outline.replay(TransformPen(pen, (1, 0, 0, share, 0, axis * (1 - share))))
    return pen.glyph()


def add_bars(font: TTFont) -> None:
    """Tall variants of | and ‖: those that a browser puts together stand off their place."""
    records, glyphs = constructions(font), font["glyf"]
    for character in "|‖":
        name = font.getBestCmap()[ord(character)]
        for height in HEIGHTS:
            tall = f"{name}.h{height}"
            glyphs[tall] = stretched(font, name, height)
            font["hmtx"][tall] = font["hmtx"][name]
            variant = otTables.MathGlyphVariantRecord()
            variant.VariantGlyph, variant.AdvanceMeasurement = tall, height
            records[name].MathGlyphVariantRecord.append(variant)
    font.setGlyphOrder(glyphs.glyphOrder)


def lower_braces(font: TTFont) -> None:
    """Room above the brace under a formula, of which browsers leave none."""
    table = font["MATH"].table.MathVariants
    name = font.getBestCmap()[ord("⏟")]
    record = table.HorizGlyphConstruction[table.HorizGlyphCoverage.glyphs.index(name)]
    names = {variant.VariantGlyph for variant in record.MathGlyphVariantRecord}
    for name in {*names, *(part.glyph for part in record.GlyphAssembly.PartRecords)}:
        font["glyf"][name].coordinates.translate((0, -BRACE))


def lower_primes(font: TTFont) -> None:
    """Primes made for superscripts: larger, and not raised twice."""
    size, bottom = PRIME
    for character in "′″‴":
        name = font.getBestCmap()[ord(character)]
        glyph, (width, bearing) = font["glyf"][name], font["hmtx"][name]
        if glyph.isComposite():
            glyph.coordinates = glyph.getCoordinates(font["glyf"])[0]
        glyph.coordinates.scale((size, size))
        glyph.coordinates.translate((0, bottom - min(y for _, y in glyph.coordinates)))
        glyph.coordinates.toInt()
        font["hmtx"][name] = (round(width * size), round(bearing * size))


def level_scripts(font: TTFont) -> None:
    """Scripts of a high or a low letter, such as beta, where those of x are."""
    constants = font["MATH"].table.MathConstants
    constants.SubscriptBaselineDropMin.Value = 0
    constants.SuperscriptBaselineDropMax.Value = 390


def cut(font: TTFont, text: str) -> None:
    """Keep these characters, with what they grow to."""
    options = subset.Options(hinting=False, notdef_outline=True, layout_features=["ccmp"])
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]
    cutter = subset.Subsetter(options)
    cutter.populate(text=text)
    cutter.subset(font)


def main(path: str) -> None:
    html = "".join(
        page.read_text(encoding="utf-8") for page in (ROOT / "_build" / "html").rglob("*.html")
    )
    font = TTFont(path)
    level_widths(font)
    add_bars(font)
    lower_primes(font)
    lower_braces(font)
    level_scripts(font)
    cut(font, "".join({*ALWAYS, *characters(html)}))
    font.flavor = "woff2"
    font.save(FONT)
    print(f"{FONT.relative_to(ROOT)}: {FONT.stat().st_size:,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
