"""Escaping of names and messages from files, for each format that shows them."""

from swbench.errors import printable

FORMULA = ("=", "+", "-", "@")
"""A spreadsheet runs a cell that starts with one of these (OWASP, "CSV injection")."""

_MARKDOWN = str.maketrans(
    {**{c: f"\\{c}" for c in "\\`*_[]|~#$!"}, "<": "&lt;", ">": "&gt;", "&": "&amp;"}
)

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "#": r"\#",
        "%": r"\%",
        "_": r"\_",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "'": r"\textquotesingle{}",
        "`": r"\textasciigrave{}",
        "[": r"{[}",
        "×": r"\ensuremath{\times}",
        "±": r"\ensuremath{\pm}",
        "≈": r"\ensuremath{\approx}",
        "≤": r"\ensuremath{\leq}",
        "≥": r"\ensuremath{\geq}",
        "‖": r"\ensuremath{\Vert}",
        "Σ": r"\ensuremath{\Sigma}",
        "κ": r"\ensuremath{\kappa}",
        "ᵀ": r"\ensuremath{^{\mathsf T}}",
        "★": r"\ensuremath{\star}",
        "µ": r"\textmu{}",
        "–": r"\textendash{}",
        "…": r"\dots{}",
        "→": r"\ensuremath{\rightarrow}",
        "⁹": r"\textsuperscript{9}",
    }
)
_LATEX_LETTERS = frozenset(chr(code) for code in range(0xC0, 0x180)) - {"ĸ", "ŉ", "ſ"}
"""Letters that the T1 font encoding has or composes. Any other is written as its code point, so
that the document compiles.
"""


def plain(text: object) -> str:
    """One line of text in which every control character, line break and direction override is
    visible as an escape.
    """
    return printable(text)


def spreadsheet(text: object) -> str:
    """Text that no spreadsheet takes for a formula: an apostrophe before a leading =, +, - or @,
    wherever white space hides it.
    """
    visible = plain(text)
    return f"'{visible}" if visible.lstrip().startswith(FORMULA) else visible


def markdown(text: object) -> str:
    """Text that Markdown shows as it is, also in the cell of a table."""
    return plain(text).translate(_MARKDOWN)


def latex(text: object) -> str:
    """Text that LaTeX (pdfLaTeX, T1) sets as it is."""
    visible = plain(text)
    known = "".join(
        c if c.isascii() or c in _LATEX_LETTERS or ord(c) in _LATEX else f"[U+{ord(c):04X}]"
        for c in visible
    )
    # twice, because matches do not overlap
    return known.translate(_LATEX).replace("--", "-{}-").replace("--", "-{}-")
