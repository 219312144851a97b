"""Make zigllama/inference/grammar/regex_tables.py: what `\\p{..}` and the flag i need to know of Unicode.

    pip install unicodedata2==15.1.0    (and Node.js, which is asked for scripts, binary properties and case folding)
    python tools/make_regex_tables.py

The categories come from unicodedata2, the rest from the engine of Node.js, which may know a later version of Unicode:
what 15.1 has not assigned is left out. Categories that models/unicode_ranges.py has are not made twice.
"""

from __future__ import annotations

import json
import subprocess
import textwrap
from pathlib import Path

import unicodedata2

TARGET = Path(__file__).resolve().parent.parent / "zigllama" / "inference" / "grammar" / "regex_tables.py"
CATEGORIES = "Mn Mc Me Nl No Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()  # noqa: SIM905
# A binary property as the categories that are most of it; the tables have what must be added to them and taken away.
BINARY = {
    "Alphabetic": "L Nl",
    "Lowercase": "Ll",
    "Uppercase": "Lu",
    "ID_Start": "L Nl",
    "ID_Continue": "L Nl Mn Mc Nd Pc",
    "XID_Start": "L Nl",
    "XID_Continue": "L Nl Mn Mc Nd Pc",
    "Emoji": "",
    "Emoji_Presentation": "",
    "Extended_Pictographic": "",
    "Ideographic": "",
    "Dash": "Pd",
    "Math": "Sm",
}
SCRIPTS = """
Adlam:Adlm Ahom Anatolian_Hieroglyphs:Hluw Arabic:Arab Armenian:Armn Avestan:Avst Balinese:Bali Bamum:Bamu
Bassa_Vah:Bass Batak:Batk Bengali:Beng Bhaiksuki:Bhks Bopomofo:Bopo Brahmi:Brah Braille:Brai Buginese:Bugi Buhid:Buhd
Canadian_Aboriginal:Cans Carian:Cari Caucasian_Albanian:Aghb Chakma:Cakm Cham Cherokee:Cher Chorasmian:Chrs
Common:Zyyy Coptic:Copt Cuneiform:Xsux Cypriot:Cprt Cypro_Minoan:Cpmn Cyrillic:Cyrl Deseret:Dsrt Devanagari:Deva
Dives_Akuru:Diak Dogra:Dogr Duployan:Dupl Egyptian_Hieroglyphs:Egyp Elbasan:Elba Elymaic:Elym Ethiopic:Ethi
Georgian:Geor Glagolitic:Glag Gothic:Goth Grantha:Gran Greek:Grek Gujarati:Gujr Gunjala_Gondi:Gong Gurmukhi:Guru
Hangul:Hang Hanifi_Rohingya:Rohg Hanunoo:Hano Hatran:Hatr Hebrew:Hebr Hiragana:Hira Imperial_Aramaic:Armi
Inherited:Zinh Inscriptional_Pahlavi:Phli Inscriptional_Parthian:Prti Javanese:Java Kaithi:Kthi Kannada:Knda
Katakana:Kana Kawi Kayah_Li:Kali Kharoshthi:Khar Khitan_Small_Script:Kits Khmer:Khmr Khojki:Khoj Khudawadi:Sind
Lao:Laoo Latin:Latn Lepcha:Lepc Limbu:Limb Linear_A:Lina Linear_B:Linb Lisu Lycian:Lyci Lydian:Lydi Mahajani:Mahj
Makasar:Maka Malayalam:Mlym Mandaic:Mand Manichaean:Mani Marchen:Marc Masaram_Gondi:Gonm Medefaidrin:Medf
Meetei_Mayek:Mtei Mende_Kikakui:Mend Meroitic_Cursive:Merc Meroitic_Hieroglyphs:Mero Miao:Plrd Modi Mongolian:Mong
Mro:Mroo Multani:Mult Myanmar:Mymr Nabataean:Nbat Nag_Mundari:Nagm Nandinagari:Nand New_Tai_Lue:Talu Newa Nko:Nkoo
Nushu:Nshu Nyiakeng_Puachue_Hmong:Hmnp Ogham:Ogam Ol_Chiki:Olck Old_Hungarian:Hung Old_Italic:Ital
Old_North_Arabian:Narb Old_Permic:Perm Old_Persian:Xpeo Old_Sogdian:Sogo Old_South_Arabian:Sarb Old_Turkic:Orkh
Old_Uyghur:Ougr Oriya:Orya Osage:Osge Osmanya:Osma Pahawh_Hmong:Hmng Palmyrene:Palm Pau_Cin_Hau:Pauc Phags_Pa:Phag
Phoenician:Phnx Psalter_Pahlavi:Phlp Rejang:Rjng Runic:Runr Samaritan:Samr Saurashtra:Saur Sharada:Shrd Shavian:Shaw
Siddham:Sidd SignWriting:Sgnw Sinhala:Sinh Sogdian:Sogd Sora_Sompeng:Sora Soyombo:Soyo Sundanese:Sund
Syloti_Nagri:Sylo Syriac:Syrc Tagalog:Tglg Tagbanwa:Tagb Tai_Le:Tale Tai_Tham:Lana Tai_Viet:Tavt Takri:Takr Tamil:Taml
Tangsa:Tnsa Tangut:Tang Telugu:Telu Thaana:Thaa Thai Tibetan:Tibt Tifinagh:Tfng Tirhuta:Tirh Toto Ugaritic:Ugar
Vai:Vaii Vithkuqi:Vith Wancho:Wcho Warang_Citi:Wara Yezidi:Yezi Yi:Yiii Zanabazar_Square:Zanb
"""
SCRIPT = """
const lines = [];
process.stdin.on("data", d => lines.push(d)).on("end", () => {
  const [names, codes] = JSON.parse(Buffer.concat(lines).toString());
  const found = {};
  for (const n of names) {
    const r = new RegExp(`^\\\\p{${n}}$`, "u");
    found[n] = codes.filter(c => r.test(String.fromCodePoint(c)));
  }
  const folds = [];
  for (const c of codes) {
    const s = String.fromCodePoint(c), near = new Set();
    for (const t of [s.toLowerCase(), s.toUpperCase(), s.toUpperCase().toLowerCase(), s.toLowerCase().toUpperCase()])
      if ([...t].length == 1 && t != s) near.add(t.codePointAt(0));
    const odd = {0x1e9e: 0xdf, 0x2126: 0x3c9, 0x212a: 0x6b, 0x212b: 0xe5};
    if (c in odd) near.add(odd[c]);
    const r = new RegExp(`^\\\\u{${c.toString(16)}}$`, "iu");
    for (const o of near) if (r.test(String.fromCodePoint(o))) folds.push([c, o]);
  }
  process.stdout.write(JSON.stringify([found, folds, process.version, process.versions.unicode]));
});
"""


def ranges(codes: list[int]) -> str:
    """A sorted list as `first-last` in hexadecimal."""
    found: list[list[int]] = []
    for code in codes:
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return " ".join(f"{a:x}" if a == b else f"{a:x}-{b:x}" for a, b in found)


def folded(pairs: list[list[int]]) -> str:
    """The classes of characters that are equal when case does not count, as `first-last/stride+shift`: each of first,
    first + stride, ..., last equals the one that is `shift` further on.
    """
    root: dict[int, int] = {}

    def find(c: int) -> int:
        while root.setdefault(c, c) != c:
            c = root[c]
        return c

    for a, b in pairs:
        a, b = sorted((find(a), find(b)))
        root[b] = a
    links = sorted((find(c), c) for c in root if find(c) != c)
    runs: list[list[int]] = []  # first, last, stride (0: a single one yet), shift
    for a, b in links:
        last = runs[-1] if runs else [0, 0, 0, 0]
        if last[3] == b - a and (last[2] in (0, a - last[1])) and 0 < a - last[1] <= 2:
            last[1], last[2] = a, a - last[1]
        else:
            runs.append([a, a, 0, b - a])
    return " ".join(f"{a:x}{f'-{b:x}' if b > a else ''}{'/2' if s == 2 else ''}+{d:x}" for a, b, s, d in runs)


def main() -> None:
    every = range(0x110000)
    category = [unicodedata2.category(chr(c)) for c in every]
    codes = [c for c in every if category[c] not in ("Cn", "Cs")]
    scripts = [s.partition(":") for s in SCRIPTS.split()]
    ask = [*BINARY, *(f"Script={name}" for name, _, _ in scripts)]
    done = subprocess.run(
        ["node", "-e", SCRIPT], input=json.dumps([ask, codes]), capture_output=True, text=True, check=True
    )
    found, pairs, node, unicode = json.loads(done.stdout)
    version = unicodedata2.unidata_version
    out = [
        '"""Unicode for regular expressions: categories, scripts, binary properties and case folding, as ranges\n'
        "`first-last` in hexadecimal.\n\n"
        f"Generated by tools/make_regex_tables.py from Unicode {version} (categories) and Node.js {node} "
        f"(Unicode {unicode};\n"
        f'without what {version} does not assign); do not edit. What they are for: regex_properties.py.\n"""\n\n'
        f'UNICODE_VERSION = "{version}"\n\n'
        "# general categories, beside those of models/unicode_ranges.py\nCATEGORIES = {\n",
    ]

    def entry(name: str, text: str) -> None:
        lines = textwrap.wrap(text, 118, break_on_hyphens=False) or [""]
        out.append(f'    "{name}": """\n' + "\n".join(lines) + '\n""",\n')

    for name in CATEGORIES:
        entry(name, ranges([c for c in every if category[c] == name]))
    out.append("}\n\n# scripts\nSCRIPTS = {\n")
    for name, _, _ in scripts:
        entry(name, ranges(found[f"Script={name}"]))
    out.append("}\n\n# the short names of scripts\nSCRIPT_ALIASES = {\n")
    out += [f'    "{short}": "{name}",\n' for name, _, short in scripts if short]
    out.append("}\n\n# binary properties: BINARY_BASE's categories, with what is added, without what is taken away\n")
    out.append("BINARY = {\n")
    for name, base in BINARY.items():
        of = {c for c in codes if any(category[c].startswith(b) for b in base.split())}
        have = set(found[name])
        entry(name + " added", ranges(sorted(have - of)))
        entry(name + " away", ranges(sorted(of - have)))
    out.append(
        "}\n\nBINARY_BASE = {\n" + "".join(f'    "{name}": "{base}",\n' for name, base in BINARY.items()) + "}\n"
    )
    out.append("\n# what equals what when case does not count: `first-last/stride+shift`\nFOLDS = ")
    out.append('"""\n' + "\n".join(textwrap.wrap(folded(pairs), 118, break_on_hyphens=False)) + '\n"""\n')
    TARGET.write_text("".join(out), "utf-8")


if __name__ == "__main__":
    main()
