# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of pages look for in their pictures (harness.svg)."""

import re
from xml.etree import ElementTree


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
