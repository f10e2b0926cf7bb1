# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether what the documents name exists.

In the sources (reStructuredText and Markdown): paths of this repository, names
of its files, and targets of its Makefile.  In the HTML pages that were built:
every link to a page, to a place in a page, and to an image.
"""

import fnmatch
import html.parser
import os
import re
import subprocess
import urllib.parse

from common import REPO, read

LITERAL = re.compile(r'``([^`]+)``|(?<!`)`([^`\n]+)`(?![`_])')
# A command in a literal block: indented text
BLOCK = re.compile(r'^(?: {2,}|\t)(\S.*)$', re.M)
WORD = re.compile(r'[\w.*@+/-]+')
SUFFIXES = ('.c', '.h', '.py', '.cocci', '.insert', '.rst', '.svg', '.series', '.config')
TARGET = re.compile(r'\bmake ((?:[A-Z_]+=\S+ +)*)([a-z][a-z-]*)\b')


def files():
    """Every file of the repository, tracked or about to be."""
    done = subprocess.run(['git', '-C', REPO, 'ls-files', '-co', '--exclude-standard'],
                          stdout=subprocess.PIPE, universal_newlines=True, check=False)
    found = done.stdout.split('\n') if done.returncode == 0 else [
        os.path.relpath(os.path.join(folder, name), REPO)
        for folder, _, names in os.walk(REPO) for name in names]
    return [name for name in found if name and os.path.exists(os.path.join(REPO, name))]


def targets(makefile):
    return set(re.findall(r'^([a-z][a-z-]*):', makefile, re.M))


class Names:
    """What may be named: files, the folders above them, make's targets."""

    def __init__(self, paths, goals):
        self.paths = set(paths)
        for path in paths:
            while '/' in path:
                path = path.rpartition('/')[0]
                self.paths.add(path)
        self.base = {os.path.basename(path) for path in paths}
        self.top = {path.partition('/')[0] for path in paths if '/' in path}
        self.goals = set(goals)

    def is_ours(self, word):
        """Whether @word looks like a path or file of this repository"""
        first, slash, rest = word.partition('/')
        if slash:
            return bool(rest) and first in self.top
        return word.endswith(SUFFIXES) and not word.startswith('.')

    def exists(self, word):
        """Also of a file that is QEMU's or Linux's and changed here"""
        word = word.rstrip('/')
        pool = self.paths if '/' in word else self.base
        stem = word[:-2] if word.endswith('.c') else word
        return (bool({word, stem + '.cocci', word + '.cocci', word + '.insert'} & pool)
                or ('*' in word and bool(fnmatch.filter(pool, word))))


def literals(text):
    """What @text has in typewriter letters, with the number of the line"""
    for pattern in (LITERAL, BLOCK):
        for match in pattern.finditer(text):
            literal = next(group for group in match.groups() if group)
            yield text.count('\n', 0, match.start()) + 1, literal


def missing_names(text, names):
    """[(line, what)] of what @text names and what does not exist"""
    found = set()
    for line, literal in literals(text):
        for word in WORD.findall(literal):
            word = word.rstrip('.')
            if names.is_ours(word) and not names.exists(word):
                found.add((line, 'no file %s here' % word))
        for match in TARGET.finditer(literal):
            if match.group(2) not in names.goals:
                found.add((line, 'no target %s in the Makefile' % match.group(2)))
    return sorted(found)


def check_sources(paths):
    """Messages for the documents @paths, relative to the repository"""
    names = Names(files(), targets(read(os.path.join(REPO, 'Makefile')).decode()))
    return ['%s:%d: %s' % (path, line, what) for path in paths
            for line, what in missing_names(
                read(os.path.join(REPO, path)).decode(), names)]


class Page(html.parser.HTMLParser):
    """What a page links to, and the places in it."""

    def __init__(self, text):
        super().__init__()
        self.links, self.places = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == 'id' or (name == 'name' and tag == 'a'):
                self.places.add(value)
            elif name in ('href', 'src') and value:
                self.links.append(value)


def broken_links(pages):
    """@pages: {path: text}, all of one tree.  Messages for what leads nowhere;
    links out of the tree are not looked at."""
    parsed = {path: Page(text) for path, text in pages.items() if path.endswith('.html')}
    found = []
    for path, page in parsed.items():
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = os.path.normpath(os.path.join(
                os.path.dirname(path), urllib.parse.unquote(parts.path))
                if parts.path else path)
            if target not in pages:
                found.append('%s: %s leads nowhere' % (path, link))
            elif (parts.fragment and target in parsed
                  and parts.fragment not in parsed[target].places):
                found.append('%s: no such place: %s' % (path, link))
    return found


def check_html(top):
    """Messages for the tree of pages below @top"""
    pages = {}
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            pages[os.path.relpath(path, top)] = (
                read(path).decode() if name.endswith('.html') else '')
    return broken_links(pages)
