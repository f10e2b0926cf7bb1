# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of pages look for in their pictures (harness.svg)."""

import re
from xml.etree import ElementTree

from harness import svg


def pictures(text):
    """{id of the title: element} of each SVG in @text that is a picture"""
    found = {}
    for match in re.finditer(r'<svg class=.*?</svg>', text, re.S):
        element = ElementTree.fromstring(match.group())
        found[element.find('title').get('id')] = element
    return found


def marks(picture, kind):
    """Its elements with all of the classes of @kind"""
    return [e for e in picture.iter()
            if set(kind.split()) <= set((e.get('class') or '').split())]


def check_no_text_leaves(test, picture):
    """@test: the TestCase that fails if one does"""
    width = float(picture.get('viewBox').split()[2])
    for e in picture.iter('text'):
        size = len(e.text) * svg.CHARACTER
        part = {'start': 0, 'middle': 0.5, 'end': 1}[e.get('text-anchor')]
        left = float(e.get('x')) - part * size
        test.assertGreaterEqual(left, -0.1, e.text)
        test.assertLessEqual(left + size, width + 0.1, e.text)
