# SPDX-License-Identifier: GPL-2.0-or-later
"""Semantic patches: dir/x.cocci edits dir/x.c, dir/x.h.cocci edits dir/x.h.

A file is a list of sections; each begins with

    //# rule NAME places N -- reason

and is run by spatch as a patch of its own, in order.  spatch exits 0 when
nothing matched, so N, the number of hunks of `diff -U0 before after`, is what
tells a patch that works from one that no longer fits.  `places 2[10.0] 3[10.2]`
gives a number per version where the trees differ, `places 3 2[10.0]` one for
10.0 and one for all others.  A rule with 0 places is not for that version and
is not run.
"""

import difflib
import os
import re
import shutil
import subprocess
import tempfile

from common import StepError, cache_dir, need_tool, read, sha256, write

SECTION = re.compile(r'^//# rule (?P<name>\S+) places (?P<places>.+?) -- (?P<why>.+)$')
PLACES = re.compile(r'^(\d+)(?:\[([\d.]+)\])?$')
TIMEOUT = 300


class Section:
    """One rule: its name, how many places it changes, and its SmPL."""

    def __init__(self, name, places, first_line):
        self.name, self.places, self.first_line = name, places, first_line
        self.lines = []

    def wanted(self, version, where):
        """Number of places in this version of the tree."""
        general = [count for count, known in self.places if known is None]
        exact = [count for count, known in self.places
                 if known and (version + '.').startswith(known + '.')]
        if exact or general:
            return (exact or general)[0]
        raise StepError('%s: rule %s says nothing about version %s'
                        % (where, self.name, version))


def parse(text, where):
    """Sections of a .cocci file; `where` names it in errors."""
    sections = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith('//#'):
            match = SECTION.match(line)
            places = [PLACES.match(word) for word in match.group('places').split()] \
                if match else []
            if not places or not all(places):
                raise StepError('%s:%d: expected "//# rule NAME places N -- reason"'
                                % (where, number))
            if any(section.name == match.group('name') for section in sections):
                raise StepError('%s:%d: a second rule %s'
                                % (where, number, match.group('name')))
            counts = [(int(found.group(1)), found.group(2)) for found in places]
            sections.append(Section(match.group('name'), counts, number))
        elif sections:
            sections[-1].lines.append(line)
        elif line.strip() and not line.startswith('//'):
            raise StepError('%s:%d: text before the first "//# rule" line'
                            % (where, number))
    if not sections:
        raise StepError('%s: no "//# rule" line' % where)
    return sections


def hunks(before, after):
    """Number of hunks of diff -U0."""
    lines = difflib.unified_diff(before.decode(errors='replace').splitlines(),
                                 after.decode(errors='replace').splitlines(),
                                 n=0, lineterm='')
    return sum(1 for line in lines if line.startswith('@@'))


_spatch_version = []


def spatch_version():
    if not _spatch_version:
        done = subprocess.run([need_tool('spatch', 'coccinelle'), '--version'],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True, check=False)
        _spatch_version.append(done.stdout.splitlines()[0] if done.stdout else '')
    return _spatch_version[0]


def _spatch(section, source, name, macro_file, style):
    """Run one section on `source`; returns (result, spatch's messages)."""
    folder = tempfile.mkdtemp(prefix='userfault-smpl-')
    try:
        target = os.path.join(folder, name)
        rule = os.path.join(folder, section.name + '.cocci')
        write(target, source)
        write(rule, '\n'.join(section.lines) + '\n')
        argv = ['spatch', '--very-quiet', '--sp-file', rule, '--in-place',
                '--no-show-diff', '--no-includes', '--timeout', str(TIMEOUT)] + style
        if macro_file:
            write(os.path.join(folder, 'macros.h'), macro_file)
            argv += ['--macro-file', os.path.join(folder, 'macros.h')]
        done = subprocess.run(argv + [target], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, universal_newlines=True,
                              errors='replace', check=False)
        messages = done.stdout.replace(folder + '/', '')
        return read(target), done.returncode, messages
    finally:
        shutil.rmtree(folder)


def apply(text, where, source, target, version, macro_file=b'', style=()):
    """Apply the .cocci file `where` with content `text` to `source`.

    `target` is the path in the tree and `version` the tree's.  Returns the
    patched bytes.  Results are cached by the content of everything that goes
    in.
    """
    style = list(style)
    sections = parse(text, where)
    key = sha256(text, source, target, version, macro_file, ' '.join(style),
                 spatch_version(), read(__file__))
    kept = cache_dir('patched', key)
    if os.path.exists(kept):
        return read(kept)
    for section in sections:
        wanted = section.wanted(version, where)
        if not wanted:
            continue
        after, status, messages = _spatch(section, source, os.path.basename(target),
                                          macro_file, style)
        got = hunks(source, after)
        if status or got != wanted:
            reason = ' '.join(messages.split())[-400:]
            raise StepError('%s:%d: rule %s on %s of version %s: wanted %d places, '
                            'got %d%s' % (where, section.first_line, section.name,
                                          target, version, wanted, got,
                                          ' (spatch: %s)' % reason if reason else ''))
        source = after
    write(kept, source)
    return source
