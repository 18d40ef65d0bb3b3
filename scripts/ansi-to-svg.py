#!/usr/bin/env python3
"""Turns a terminal screen (the output of `tmux capture-pane -e -p`) on stdin into an SVG on stdout.

Only what ztlab's screens use: SGR colours (16, 256 and RGB), bold, dim, italic, underline, reverse.
"""

import html
import re
import sys
import unicodedata

CELL_W, CELL_H, PAD, SIZE = 8.4, 18, 14, 14
BACK, TEXT = "#16181d", "#d7dae0"
BASE = [
    "#1e2127", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#abb2bf",
    "#5c6370", "#ff7b86", "#b5e890", "#ffd68a", "#7cc4ff", "#dd9bf2", "#7fdbe6", "#ffffff",
]


def palette(n):
    if n < 16:
        return BASE[n]
    if n < 232:
        n -= 16
        level = [0, 95, 135, 175, 215, 255]
        return "#%02x%02x%02x" % (level[n // 36], level[n // 6 % 6], level[n % 6])
    grey = 8 + (n - 232) * 10
    return "#%02x%02x%02x" % (grey, grey, grey)


class Style:
    def __init__(self):
        self.fg = self.bg = None
        self.flags = set()

    def key(self):
        return (self.fg, self.bg, frozenset(self.flags))

    def sgr(self, codes):
        codes = codes or [0]
        i = 0
        while i < len(codes):
            c = codes[i]
            if c == 0:
                self.__init__()
            elif c in (1, 2, 3, 4, 7):
                self.flags.add(c)
            elif c == 22:
                self.flags -= {1, 2}
            elif c in (23, 24, 27):
                self.flags.discard(c - 20)
            elif 30 <= c <= 37:
                self.fg = palette(c - 30)
            elif 90 <= c <= 97:
                self.fg = palette(c - 82)
            elif 40 <= c <= 47:
                self.bg = palette(c - 40)
            elif 100 <= c <= 107:
                self.bg = palette(c - 92)
            elif c == 39:
                self.fg = None
            elif c == 49:
                self.bg = None
            elif c in (38, 48) and codes[i + 1 : i + 2] == [5]:
                colour = palette(codes[i + 2])
                self.fg, self.bg = (colour, self.bg) if c == 38 else (self.fg, colour)
                i += 2
            elif c in (38, 48) and codes[i + 1 : i + 2] == [2]:
                colour = "#%02x%02x%02x" % tuple(codes[i + 2 : i + 5])
                self.fg, self.bg = (colour, self.bg) if c == 38 else (self.fg, colour)
                i += 4
            i += 1


def runs(line, style):
    """(column, text, style key) for every stretch of one style."""
    column, start, text, found = 0, 0, "", []
    for part in re.split(r"(\x1b\[[0-9;:]*m)", line):
        match = re.fullmatch(r"\x1b\[([0-9;:]*)m", part)
        if match:
            if text:
                found.append((start, text, style.key()))
            style.sgr([int(c) for c in re.split("[;:]", match[1]) if c])
            start, text = column, ""
        else:
            part = re.sub(r"\x1b[()][A-Z0-9]|\x0e|\x0f", "", part)
            text += part
            column += sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in part)
    if text:
        found.append((start, text, style.key()))
    return found, column


def main():
    lines = sys.stdin.read().rstrip("\n").split("\n")
    style, body, width = Style(), [], 0
    for row, line in enumerate(lines):
        found, columns = runs(line, style)
        width = max(width, columns)
        y = PAD + row * CELL_H
        for column, text, (fg, bg, flags) in found:
            fg, bg = fg or TEXT, bg
            if 7 in flags:
                fg, bg = bg or BACK, fg
            x, w = PAD + column * CELL_W, len(text) * CELL_W
            if bg:
                body.append(f'<rect x="{x:.1f}" y="{y}" width="{w:.1f}" height="{CELL_H}" fill="{bg}"/>')
            if text.strip():
                more = ""
                if 1 in flags:
                    more += ' font-weight="bold"'
                if 2 in flags:
                    more += ' opacity="0.65"'
                if 3 in flags:
                    more += ' font-style="italic"'
                if 4 in flags:
                    more += ' text-decoration="underline"'
                body.append(
                    f'<text x="{x:.1f}" y="{y + 13.5}" fill="{fg}" textLength="{w:.1f}" '
                    f'lengthAdjust="spacingAndGlyphs"{more}>{html.escape(text)}</text>'
                )
    w, h = width * CELL_W + 2 * PAD, len(lines) * CELL_H + 2 * PAD
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w:.0f} {h:.0f}" width="{w:.0f}" height="{h:.0f}" '
          f'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{SIZE}" xml:space="preserve">')
    print(f'<rect width="100%" height="100%" rx="8" fill="{BACK}"/>')
    print("\n".join(body))
    print("</svg>")


main()
