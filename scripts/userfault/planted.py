# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of faults to plant in sources, to see whether the tests notice.

A line holds columns separated by blanks: a name, a file, what the list's
owner needs, and last a sed expression, to the end of the line.
"""

import os
from collections import namedtuple

from common import StepError, read, run


def read_faults(path, columns, wanted):
    """
    The faults listed in @path, or those named in @wanted, as tuples with the
    fields name, file, @columns and expression.
    """
    fields = ('name', 'file', *columns, 'expression')
    kind = namedtuple('Fault', fields)
    found = []
    for number, line in enumerate(read(path).decode().splitlines(), 1):
        if not line or line.startswith('#'):
            continue
        words = line.split(None, len(fields) - 1)
        if len(words) < len(fields):
            raise StepError('%s:%d: expected %s' % (path, number, ', '.join(fields)))
        found.append(kind(*words))
    unknown = set(wanted) - {fault.name for fault in found}
    if unknown:
        raise StepError('no fault %s in %s' % (sorted(unknown)[0], path))
    return [fault for fault in found if not wanted or fault.name in wanted]


def planted(fault, path):
    """The text of @path with the @fault in it."""
    changed = run(['sed', fault.expression, os.path.realpath(path)], fault.name)
    if changed.encode() == read(path):
        raise StepError('%s: its expression changes nothing in %s'
                        % (fault.name, fault.file))
    return changed
