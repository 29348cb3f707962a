"""The page: head, style and navigation."""

import re
from collections.abc import Sequence

from fnn.lab.report.markup import Markup, element, join, notice

POLICY = "; ".join(
    [
        "default-src 'none'",
        # The attributes of the figures are styles.
        "style-src 'unsafe-inline'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
TITLE = re.compile(r'^<section id="([^"]*)"><h2>(.*?)</h2>')
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #57606a;
  --line: #d0d7de; --shade: #f6f8fa; --error: #b42318; --warning: #8a5300; --info: #0b5fa5;
  --healthy: #10703f; --unknown: #57606a; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e6e9ed; --soft: #a0a8b2;
  --line: #3a414a; --shade: #1d2126; --error: #ff8a80; --warning: #f3b25a; --info: #79b8ff;
  --healthy: #6cd49a; --unknown: #a0a8b2; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 1400px; padding: 1rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; } h2 { font-size: 1.3rem; margin: 2rem 0 .5rem;
  border-bottom: 1px solid var(--line); } h3 { font-size: 1.05rem; margin: 1rem 0 .4rem; }
h4 { font-size: .95rem; margin: .8rem 0 .2rem; }
p { margin: .4rem 0; } ol, ul { margin: .3rem 0; padding-left: 1.5rem; }
a { color: var(--info); }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; padding: 0; }
.notice, figcaption, .place, caption { color: var(--soft); font-size: .9rem; }
caption { text-align: left; }
.banner { border: 2px solid; border-left-width: 10px; border-radius: 6px; padding: .6rem 1rem;
  margin: .8rem 0; }
.banner p:first-child { font-size: 1.3rem; } .banner p + p { color: var(--ink); }
.next { border: 1px solid var(--line); border-radius: 6px; padding: 0 1rem .6rem; }
.next h2 { margin-top: .6rem; border: 0; }
.card { border: 1px solid var(--line); border-left: 8px solid; border-radius: 6px;
  padding: .4rem 1rem .8rem; margin: 1rem 0; }
.card > * { color: var(--ink); } .card figure { margin: .6rem 0; }
.card .body { display: grid; gap: 0 2rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.card.refuted { opacity: .7; }
.label { display: inline-block; border: 1px solid; border-radius: 4px; padding: 0 .5rem;
  margin-right: .4rem; font-size: .9rem; font-weight: 600; }
.error { border-color: var(--error); } .warning { border-color: var(--warning); }
.info { border-color: var(--info); } .healthy { border-color: var(--healthy); }
.unknown { border-color: var(--unknown); }
.banner.error p:first-child, .error .label { color: var(--error); }
.banner.warning p:first-child, .warning .label { color: var(--warning); }
.banner.healthy p:first-child { color: var(--healthy); } .info .label { color: var(--info); }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .92rem; overflow-wrap: normal; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .7rem .2rem 0; text-align: left;
  vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
thead th { border-bottom-width: 2px; }
.count { display: inline-block; min-width: 3.5rem; text-align: right; margin-right: .5rem;
  font-variant-numeric: tabular-nums; }
.bars { display: inline-block; width: 6rem; } .bar { display: inline-block; height: .7em;
  background: var(--soft); }
.matrix td, .matrix th { border: 0; padding: 0; text-align: center; min-width: 1.9rem;
  height: 1.9rem; vertical-align: middle; font-variant-numeric: tabular-nums;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.matrix tbody th { text-align: right; padding-right: .5rem; font-weight: 400; }
.matrix thead th { vertical-align: bottom; font-weight: 400; border: 0; }
.matrix thead span { writing-mode: vertical-rl; transform: rotate(180deg); }
.bar { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
td:has(> .bars) { white-space: nowrap; }
tbody th { min-width: 4.5rem; }
.flow { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: start; }
.flow > * { max-width: 100%; } .flow > figure { flex: 1 1 20rem; min-width: min(100%, 16rem); }
@media (max-width: 600px) { .matrix td, .matrix th { min-width: 1.25rem; height: 1.25rem;
  font-size: .7rem; } .bars { width: 3.5rem; } .count { min-width: 3rem; } }
.grid { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 23rem), 1fr)); }
figure.wide { grid-column: 1 / -1; }
figure { margin: 0; } figure svg { display: block; width: 100%; height: auto;
  background: #fff; border-radius: 4px; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg text { font-family: "DejaVu Sans", Verdana, Arial, sans-serif; }
.tiles { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(6.2rem, 7.5rem)); }
.tiles img { image-rendering: pixelated; display: block; background: #fff; }
.pair { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 23rem), 1fr)); }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 6px; padding: .6rem;
  font: .85rem/1.4 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  white-space: pre-wrap; margin: .4rem 0; }
mark { background: none; color: inherit; font-weight: 700; text-decoration: underline;
  text-decoration-thickness: 2px; }
footer { color: var(--soft); font-size: .85rem; margin-top: 2rem; }
@media print { :root { --paper: #fff; --ink: #000; --soft: #333; --line: #999; --shade: #fff;
    --error: #8a1a12; --warning: #6b4000; --info: #084a80; --healthy: #0b5330; --unknown: #333; }
  body { max-width: none; padding: 0; font-size: 11pt; } nav { display: none; }
  @page { margin: 12mm; }
  figure, tr, .banner, .next, .card, .matrix { break-inside: avoid; }
  h2, h3, h4 { break-after: avoid; }
  .scroll { overflow: visible; } .wide .scroll div { min-width: 0 !important; }
  a { color: inherit; text-decoration: none; } }
"""


def page(
    titles: tuple[str, str],
    head: Sequence[Markup],
    sections: Sequence[Markup],
    data: Markup,
) -> str:
    """Return the text of the page.

    Args:
        titles: Title of the page, and one line below it.
        head: Elements before the navigation.
        sections: From `section`.
        data: The content as an element that is not shown.
    """
    title, subtitle = titles
    links = []
    for one in sections:
        match = TITLE.match(one)
        assert match is not None
        links.append(
            element(
                "li",
                element(
                    "a",
                    Markup(match[2]),
                    href=f"#{match[1]}",
                ),
            )
        )
    header = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Markup(STYLE)),
    )
    navigation = element("nav", element("ul", *links), aria_label="Sections")
    main = element(
        "main",
        *head,
        navigation,
        *sections,
    )
    top = element("header", element("h1", title), notice(subtitle))
    footer = element("footer", element("p", "Written by fnn. Read it with lab.read_report(path)."))
    body = element(
        "body",
        top,
        main,
        footer,
        data,
    )
    document = element(
        "html",
        header,
        body,
        lang="en",
    )
    return join([Markup("<!DOCTYPE html>"), document, Markup("")], "\n")
