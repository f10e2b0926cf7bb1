#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A picture of the benchmark's page as a file of its own, for a document:

    picture.py cpus|network bench.json > picture.svg
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent / 'guest'), str(HERE)]

import page                                                 # noqa: E402
import saved as saved_results                               # noqa: E402
from harness import webpage                                 # noqa: E402
from harness.svg import CHARACTER, WIDE                     # noqa: E402

LEGEND = 12                     # its height
RULE = re.compile(r'^(?:svg |text)?[.\w][^{}\n]*\{[^{}]*\}$', re.M)
CLASS = re.compile(r'\.([a-z][\w-]*)')
VARIABLES = re.compile(r':root \{(.*?)\}', re.S)
VARIABLE = re.compile(r'--([\w-]+): ([^;]+);')


def is_used(selector, classes):
    found = set(CLASS.findall(selector))
    return selector == 'svg text' or bool(found) and found <= classes


def style(picture, css):
    """What of @css the picture uses, with the colours for light and for dark"""
    used = {name for it in re.findall('class="(.*?)"', picture) for name in it.split()}
    rules = [rule for rule in RULE.findall(css)
             if any(is_used(selector.strip(), used)
                    for selector in rule.partition('{')[0].split(','))]
    names = set(re.findall(r'var\(--([\w-]+)\)', '\n'.join(rules)))
    light, dark = (' '.join(f'--{name}: {value};' for name, value
                            in VARIABLE.findall(block) if name in names)
                   for block in VARIABLES.findall(css))
    return '\n'.join([f'svg {{ {light} background: var(--card); }}',
                      '@media (prefers-color-scheme: dark) { '
                      f'svg {{ {dark} }} }}', *rules])


def legend(results):
    """Names of the modes, from the right edge on"""
    at = WIDE.width
    for mode in reversed(saved_results.modes_of(results)):
        yield (f'<text class="mode-{mode}" x="{at:g}" y="{LEGEND}" '
               f'text-anchor="end">{mode}</text>\n')
        at -= (len(mode) + 2) * CHARACTER


def standalone(pictures, css, labels=()):
    """The wide one of @pictures as a document, with @labels"""
    wide = pictures[:pictures.index('</svg>')] + ''.join(labels) + '</svg>'
    return wide.replace(
        '<svg class="wide"', '<svg xmlns="http://www.w3.org/2000/svg"', 1).replace(
        '>\n', '>\n<!--\nSPDX-License-Identifier: GPL-2.0-or-later\n-->\n'
        f'<style>\n{style(wide, css)}\n</style>\n', 1) + '\n'


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in page.TRENDS:
        sys.exit(f'usage: picture.py {"|".join(page.TRENDS)} bench.json > picture.svg')
    try:
        results = saved_results.load(page.read(Path(sys.argv[2])))
        css = webpage.STYLE.read_text() + page.STYLE.read_text()
        sys.stdout.reconfigure(encoding='utf-8')
        print(standalone(page.trend(results, sys.argv[1]), css, legend(results)),
              end='')
    except (OSError, ValueError) as error:
        sys.exit(f'picture.py: {sys.argv[2]}: {error}')


if __name__ == '__main__':
    main()
