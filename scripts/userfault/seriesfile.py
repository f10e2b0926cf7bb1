# SPDX-License-Identifier: GPL-2.0-or-later
"""A .series file: the logical commits a set of mirrored files makes.

Blocks are divided by a line `----`; a block is a subject, a body that says
why, and one `file: PATH` line per path of the target tree.  Lines that start
with `#` before the first block are comments.  Which repository file stands
behind a path follows from the names alone:

    PATH                 new file
    PATH.insert          insertions
    x.cocci              semantic patch of x.c
    x.h.cocci            semantic patch of x.h
"""

import os

from common import StepError, read

PATCH_SUFFIXES = ('.cocci', '.insert')


class Block:
    """One commit: subject, body, paths in the target tree."""

    def __init__(self, subject, body, paths):
        self.subject, self.body, self.paths = subject, body, paths

    def message(self):
        return self.subject + '\n\n' + self.body + '\n'


def cocci_name(path):
    """Semantic patch that would edit a file of the tree."""
    return path[:-2] + '.cocci' if path.endswith('.c') else path + '.cocci'


def target_name(name):
    """File of the tree that a mirrored file is about."""
    if name.endswith('.insert'):
        return name[:-len('.insert')]
    if name.endswith('.cocci'):
        stem = name[:-len('.cocci')]
        return stem if stem.endswith(('.h', '.c', '.S', '.inc')) else stem + '.c'
    return name


def parse(path, where):
    """Blocks of a .series file."""
    text = read(path).decode()
    blocks, seen = [], {}
    lines = text.splitlines()
    while lines and (lines[0].startswith('#') or not lines[0].strip()):
        lines.pop(0)
    for number, chunk in enumerate('\n'.join(lines).split('\n----\n'), 1):
        rows = [row.rstrip() for row in chunk.strip('\n').splitlines()]
        rows = [row for row in rows if row != '----']
        paths = [row[len('file:'):].strip() for row in rows if row.startswith('file:')]
        prose = [row for row in rows if not row.startswith('file:')]
        if not prose or (len(prose) > 1 and prose[1]) or not paths:
            raise StepError('%s: block %d: expected a subject, an empty line, the '
                            'reason and file: lines' % (where, number))
        body = '\n'.join(prose[2:]).strip('\n')
        if not body:
            raise StepError('%s: block "%s" gives no reason' % (where, prose[0]))
        for name in paths:
            if name in seen:
                raise StepError('%s: %s is in "%s" and in "%s"'
                                % (where, name, seen[name], prose[0]))
            seen[name] = prose[0]
        blocks.append(Block(prose[0], body, paths))
    return blocks


def sources(root, path):
    """Mirrored files behind a path of the tree: {'new'|'cocci'|'insert': file}."""
    names = {'cocci': cocci_name(path), 'insert': path + '.insert', 'new': path}
    return {kind: os.path.join(root, name) for kind, name in names.items()
            if os.path.isfile(os.path.join(root, name))}


def mirrored(root, own=(), skip=()):
    """Paths of the tree that files below `root` are about, {path: file}.

    Folders in `skip` are the project's and are not looked into.  In those
    below `own`, which hold both, only patches (.cocci, .insert) are sure to be
    mirrored.  Files at the very top are the project's unless they are patches.
    """
    found = {}
    for folder, folders, names in os.walk(root):
        relative = os.path.relpath(folder, root)
        folders[:] = [name for name in folders if not name.startswith('.')
                      and os.path.normpath(os.path.join(relative, name)) not in skip]
        for name in names:
            path = os.path.normpath(os.path.join(relative, name))
            if name.startswith('.') or name.endswith(('~', '.orig', '.rej', '.swp')):
                continue
            both = os.sep not in path or path.split(os.sep)[0] in own
            if name.endswith(PATCH_SUFFIXES) or not both:
                found[path] = target_name(path)
    return found


def check(blocks, root, where, own=(), skip=()):
    """Every mirrored file is in one block, and every block's path exists."""
    paths = {path for block in blocks for path in block.paths}
    for name, target in sorted(mirrored(root, own, skip).items()):
        if target not in paths:
            raise StepError('%s: no block has "file: %s" (for %s)'
                            % (where, target, name))
    for block in blocks:
        for path in block.paths:
            if not sources(root, path):
                raise StepError('%s: block "%s": nothing in the repository stands '
                                'for %s' % (where, block.subject, path))
