# SPDX-License-Identifier: GPL-2.0-or-later
"""A page that needs nothing else, out of parts: elements, tables, figures.

What comes in is text and is escaped, unless a name or a comment says that it
is HTML already.  What comes out is HTML.  The pictures are of svg.py.
"""

from pathlib import Path

from .svg import SIZES, escape

STYLE = Path(__file__).with_name('webpage.css')


class Markup(str):
    """HTML where text is expected"""


def inner(text):
    return text if isinstance(text, Markup) else escape(text)


def tag(name, content, **attributes):
    """An element; @content is HTML already."""
    words = ''.join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
                    for key, value in attributes.items())
    return f'<{name}{words}>{content}</{name}>'


def each_size(draw, sizes=SIZES):
    """A picture for each of @sizes, of which the style shows one"""
    return '\n'.join(draw(size) for size in sizes)


# --- tables ------------------------------------------------------------------

def table_line(cells):
    """@cells: text, the first of which names the line"""
    name, *others = cells
    return tag('tr', tag('th', inner(name), scope='row')
               + ''.join(tag('td', inner(cell)) for cell in others))


def make_table(caption, head, lines):
    """A table that scrolls by itself; @lines as for table_line()."""
    return group_table(caption, head, [('', lines)])


def group_table(caption, head, groups):
    """The same of (title or '', lines) groups, each below its title."""
    first, *others = head
    heads = tag('td', inner(first)) + ''.join(
        tag('th', inner(h), scope='col') for h in others)
    body = []
    for title, lines in groups:
        if title:
            body.append(tag('tr', tag('th', inner(title), scope='rowgroup',
                                      colspan=len(head)), class_='group'))
        body += map(table_line, lines)
    return tag('div', '<table>' + tag('caption', escape(caption))
               + tag('thead', tag('tr', heads)) + '<tbody>\n'
               + '\n'.join(body) + '\n</tbody></table>', class_='scroll')


def whole_names(texts):
    """Names for rows whose texts leave out what is in a row above them."""
    names, head = [], ''
    for text in texts:
        blanks = len(text) - len(text.lstrip())
        if not blanks:
            head = text
            names.append(text)
        elif blanks <= 2:
            names.append(f'{head}, {text.strip()}')
        else:
            names.append(f'{head[:blanks].strip()} {text.strip()}')
    return names


# --- parts -------------------------------------------------------------------

def section(title, content):
    """@content is HTML already."""
    return tag('section', tag('h2', escape(title)) + content)


def figure_card(title, values, note):
    """A figure in large letters; @values is HTML already."""
    return section(title, tag('div', values, class_='big')
                   + tag('span', escape(note)))


def figure(picture, caption):
    return tag('figure', picture + tag('figcaption', escape(caption)))


def details(summary, content):
    return tag('details', tag('summary', escape(summary)) + content)


def compared(values):
    """'8.66 s | 13.2 s' of (mode, text) @values, in the modes' colours"""
    return ' <small>|</small> '.join(
        tag('b', escape(text), style=f'color: var(--{mode})')
        for mode, text in values)


def keys(items):
    """What the colours mean; (mark, text) @items, the mark within 26 by 12."""
    return tag('ul', ''.join(
        tag('li', tag('svg', mark, viewBox='0 0 26 12', aria_hidden='true')
            + escape(text)) for mark, text in items), class_='keys')


def mode_keys(modes):
    """The same of (mode, text) @modes, whose lines have these looks"""
    return keys((f'<path class="line mode-{mode}" d="M1 6H25"/>', text)
                for mode, text in modes)


def facts(pairs):
    return tag('dl', ''.join(tag('dt', inner(name)) + tag('dd', inner(what))
                             for name, what in pairs))


def document(title, body, style=''):
    """The whole page; @body and @style, which comes after the common one, are
    HTML and CSS already."""
    return ('<!DOCTYPE html>\n<html lang="en">\n<head>\n'
            '<meta charset="utf-8">\n<meta name="viewport" '
            'content="width=device-width, initial-scale=1">\n'
            f'<title>{escape(title)}</title>\n<style>\n'
            + STYLE.read_text() + style + '</style>\n</head>\n<body>\n'
            + tag('main', body) + '\n</body>\n</html>\n')
