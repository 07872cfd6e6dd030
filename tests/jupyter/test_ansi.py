"""What a program printed is shown as a terminal would show it."""

from __future__ import annotations

import time

import pytest

from nbtasks.jupyter import ansi
from nbtasks.jupyter.sgr import PLAIN, apply, css, readable


@pytest.mark.parametrize(
    ("printed", "seen"),
    [
        ("plain\ntext\n", "plain\ntext"),
        ("windows\r\nlines\r\n", "windows\nlines"),
        (" 10%\r 50%\r100%", "100%"),
        ("long line\rshort", "shortline"),
        ("working...\r\x1b[Kdone", "done"),
        ("working...\r\x1b[2Kdone", "done"),
        ("abc\x1b[1Kd", "   d"),
        ("abc\b\bX", "aXc"),
        ("a\tb", "a\tb"),
        ("12345678901\r\tX", "12345678X01"),
        ("one\ntwo\x1b[Athree", "onethree\ntwo"),
        ("bar 1\nbar 2\r\x1b[1A\x1b[2Kbar 1 done\n\x1b[2Kbar 2 done", "bar 1 done\nbar 2 done"),
        ("a\nb\nc\x1b[2A\x1b[Jx", "ax"),
        ("old\nscreen\x1b[2J\rnew", "new"),
        ("a\x1b[3Cb", "a   b"),
        ("abcd\x1b[2DX", "abXd"),
        ("abcd\x1b[2GX", "aXcd"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;cm0gLXJm\x07paste", "paste"),
        ("\x1b]0;never ended\nnext", "\nnext"),
        ("\x1bP1;2|sixel\x1b\\x", "x"),
        ("\x9b31mred\x9d0;t\x9cx", "redx"),
        ("\x1b[?25l\x1b[?1049hhidden cursor\x1b[?25h", "hidden cursor"),
        ("\x1bc\x1b(B\x1b=reset", "reset"),
        ("bell\x07 null\x00 delete\x7f", "bell null delete"),
        ("cut \x1b[3", "cut "),
        ("cut \x1b", "cut "),
        ("\x1b[6n\x1b[5;5Hplace", "place"),
        ("safe\u202egnp.exe\u2066", "safegnp.exe"),
        ("half \ud800 pair", "half \ufffd pair"),
        ("para\u2029graph", "para\ngraph"),
        ("é 日本 👩‍🔬", "é 日本 👩‍🔬"),
        ("\x1b[99999999999999Cfar", " far"),
        ("", ""),
        ("\n\n\n", ""),
    ],
)
def test_text_is_what_a_terminal_shows(printed: str, seen: str) -> None:
    assert ansi.to_text(printed) == seen.rstrip()


@pytest.mark.parametrize(
    ("sequence", "style"),
    [
        ("1", "font-weight:bold"),
        ("3;4", "font-style:italic;text-decoration:underline"),
        ("9", "text-decoration:line-through"),
        ("2", "opacity:0.7"),
        ("31", "color:#d32f2f"),
        ("91", "color:#e04848"),
        ("37", ""),
        ("41", "background-color:rgba(211,47,47,0.22)"),
        ("30;43", "background-color:rgba(165,106,0,0.22)"),
        ("7", "background-color:rgba(138,138,138,0.22)"),
        ("7;31", "background-color:rgba(211,47,47,0.22)"),
        ("38;5;1", "color:#d32f2f"),
        ("38;5;130", "color:#af5f00"),
        ("38;2;200;100;0", "color:#c86400"),
        ("38:2::200:100:0", "color:#c86400"),
        ("38:5:130", "color:#af5f00"),
        ("48;5;232", "color:#ffffff;background-color:#080808"),
        ("48;2;255;255;0", "color:#000000;background-color:#ffff00"),
        ("38;5;226;48;2;0;0;0", "color:#ffff00;background-color:#000000"),
        ("1;38;5;130;4", "font-weight:bold;text-decoration:underline;color:#af5f00"),
        ("58;5;3;1", "font-weight:bold"),
        ("1;22", ""),
        ("31;39", ""),
        ("1;31;0", ""),
        ("1;;", ""),
        ("4;4:0", ""),
        ("38;5", ""),
        ("38;2;1;2", ""),
        ("38;5;999", ""),
        ("38", ""),
        ("999;-1;abc", ""),
    ],
)
def test_colours_become_plain_css(sequence: str, style: str) -> None:
    assert css(apply(PLAIN, sequence)) == style


def test_a_colour_goes_on_until_it_ends() -> None:
    printed = "\x1b[31mred\nstill\x1b[0m plain"
    red = '<span style="color:#d32f2f">'
    assert ansi.to_html(printed) == f"{red}red</span>\n{red}still</span> plain"


def test_overwritten_text_takes_its_new_colour() -> None:
    assert ansi.to_html("\x1b[31mwait\x1b[0m\r\x1b[32mok") == (
        '<span style="color:#2f8336">ok</span><span style="color:#d32f2f">it</span>'
    )


def test_html_is_escaped_inside_and_outside_of_colours() -> None:
    assert ansi.to_html("<b>&\"'") == "&lt;b&gt;&amp;&quot;&#x27;"
    assert "<script" not in ansi.to_html("\x1b[1m<script>")


@pytest.mark.parametrize(
    "colour", ["#ffff00", "#00ff00", "#000080", "#008700", "#ffd7ff", "#5f0000", "#c0c0c0", "#600060"]
)
def test_true_colours_can_be_read_on_white_and_on_black(colour: str) -> None:
    def light(value: str) -> float:
        parts = [int(value[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        parts = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(p * w for p, w in zip(parts, (0.2126, 0.7152, 0.0722), strict=True))

    made = light(readable(colour))
    assert 1.05 / (made + 0.05) > 3
    assert (made + 0.05) / (light("#111111") + 0.05) > 3


def test_only_the_end_of_much_output_is_shown() -> None:
    shown = ansi.to_text("".join(f"line {n}\n" for n in range(100_000)))
    lines = shown.split("\n")
    assert lines[0] == "…"
    assert lines[-1] == "line 99999"
    assert len(lines) == 201
    assert len(ansi.to_text("x" * 1_000_000)) <= 20_010
    assert len(ansi.to_text("word " * 9000 + "\n" + "y" * 30_000)) <= 20_010


def test_one_line_longer_than_the_limit_keeps_its_end() -> None:
    assert ansi.to_text("a" * 50 + "end", size=10) == "…\n" + "a" * 7 + "end"


def test_what_fits_is_not_marked_as_cut() -> None:
    assert not ansi.to_text("line\n" * 200).startswith("…")


def test_a_flood_of_colours_stays_bounded() -> None:
    flood = "".join(f"\x1b[38;2;{n % 256};{n // 256 % 256};7mx" for n in range(20_000))
    assert len(ansi.to_html(flood)) < 200_000


def test_hostile_input_is_quick() -> None:
    begun = time.process_time()
    for text in ("\x1b[" * 200_000, "\r" * 500_000 + "x", "\x1b[9999C" * 20_000, "\x1b]" * 100_000, "a\b" * 100_000):
        ansi.to_html(text)
        ansi.one_line(text)
    assert time.process_time() - begun < 5


def test_one_line_is_one_line() -> None:
    assert ansi.one_line("a\n  b\t\x1b[31mc\x1b[0m\x07") == "a b c"
    assert ansi.one_line("x" * 500, 10) == "x" * 9 + "…"
    assert ansi.one_line(12) == "12"
