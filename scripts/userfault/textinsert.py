# SPDX-License-Identifier: GPL-2.0-or-later
"""Insertions into files that are not C: dir/F.insert edits dir/F.

    # why
    after: REGEX        (or before: REGEX)
    +text of the new line
    +...

REGEX must match exactly one line of the file; the smallest that does is the
best, since it survives changes around it.  A group may follow another.
"""

import re

from common import StepError


def parse(text, where):
    """[(line number, 'after'|'before', regex, [new lines])]"""
    groups = []
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'^(after|before): (.+)$', line)
        if match:
            try:
                anchor = re.compile(match.group(2))
            except re.error as error:
                raise StepError('%s:%d: %s' % (where, number, error)) from None
            groups.append((number, match.group(1), anchor, []))
        elif line.startswith('+') and groups:
            groups[-1][3].append(line[1:])
        elif line.strip() and not line.startswith('#'):
            raise StepError('%s:%d: expected "after:", "before:", "+" or "#"'
                            % (where, number))
    for number, _, anchor, lines in groups:
        if not lines:
            raise StepError('%s:%d: nothing to insert at /%s/'
                            % (where, number, anchor.pattern))
    if not groups:
        raise StepError('%s: nothing to insert' % where)
    return groups


def apply(text, where, source, target, version):
    """Insert into `source` (bytes), the file `target` of a tree; returns bytes."""
    old = source.decode().splitlines(keepends=True)
    before, after = {}, {}
    for number, side, anchor, lines in parse(text, where):
        found = [index for index, line in enumerate(old)
                 if anchor.search(line.rstrip('\n'))]
        if len(found) != 1:
            raise StepError('%s:%d: /%s/ on %s of version %s: wanted 1 line, got %d'
                            % (where, number, anchor.pattern, target, version,
                               len(found)))
        place = before if side == 'before' else after
        place.setdefault(found[0], []).extend(line + '\n' for line in lines)
    new = []
    for index, line in enumerate(old):
        new += before.get(index, [])
        new.append(line if line.endswith('\n') or index not in after else line + '\n')
        new += after.get(index, [])
    return ''.join(new).encode()
