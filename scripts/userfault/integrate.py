#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Make the tree that is built: integrate.py qemu|linux

build/qemu and build/linux are git repositories: the first commit is the
pristine source, then comes one commit per block of the .series file.  In the
work tree a new file is a symbolic link into this repository, so that an edit
is compiled at once; in the commits it is an ordinary file.  A file's time
changes only when its content does, so that a build does no more than it must.

State: .git/userfault.json names the pristine tree and every file this step
put in place; it is written after the work tree, so an interrupted run is
noticed and done again.
"""

import argparse
import json
import os

import fetch
import pristine
import seriesfile
import smpl
import textinsert
from common import (HERE, REPO, StepError, build_dir, fresh_dir,
                    load_config, lock, main, need_space, read, save_config, say,
                    sweep, timed, write)

STATE = 'userfault.json'
BRANCH = 'refs/heads/userfault'


class Component:
    """What differs between QEMU and Linux."""

    def __init__(self, name, root, series, **details):
        self.name, self.root, self.series = name, root, series
        self.own = details.get('own', ())
        self.skip = details.get('skip', ())
        self.style = details.get('style', ())
        self.macros = details.get('macros')
        self.sparse = details.get('sparse', ())
        self.gigabytes = details['gigabytes']

    def tree(self):
        return os.path.join(build_dir(), self.name)


COMPONENTS = {
    'qemu': Component(
        'qemu', REPO, os.path.join(HERE, 'qemu.series'),
        own=('docs', 'scripts', 'tests'),
        skip=('build', 'scripts/userfault', 'tests/kernel', 'tests/testhost',
              'tests/tooling'),
        style=('--indent', '4', '--keep-comments'),
        macros='scripts/cocci-macro-file.h',
        # Firmware sources: nothing of it is built, Debian packages it.
        sparse=('roms',), gigabytes=1.0),
    'linux': Component(
        'linux', os.path.join(REPO, 'tests', 'kernel', 'linux'),
        os.path.join(REPO, 'tests', 'kernel', 'linux.series'),
        style=('--keep-comments',), gigabytes=2.5),
}


def source_of(component, config):
    """(key, version) of the pristine tree; fetched again if the cache lost it."""
    known = config.get('sources', {}).get(component.name)
    if known and pristine.exists(known['key']):
        return known['key'], known['version']
    path = config.get('%s_source' % component.name)
    mirror = config.get('debian_mirror')
    if path:
        key, version = fetch.from_path(component.name, path)
    elif component.name == 'qemu':
        key, version = fetch.debian_qemu(mirror, series=config.get('qemu_version'))
    else:
        key, version = fetch.debian_linux(mirror, config.get('linux_version'))
    fetch.check_version(component.name, version, config.get('untried_version'))
    config.setdefault('sources', {})[component.name] = {'key': key, 'version': version}
    save_config(config)
    return key, version


class Result:
    """One file of the integrated tree."""

    def __init__(self, data, mode, link=None):
        self.data, self.mode, self.link = data, mode, link


def result_of(component, key, version, path):
    """Content of one changed or new file, or a StepError naming the rule."""
    behind = seriesfile.sources(component.root, path)
    old = pristine.file_at(key, path)
    if 'new' in behind:
        if old is not None:
            raise StepError('%s exists in %s %s already; a new file cannot stand '
                            'there' % (path, component.name, version))
        if len(behind) > 1:
            raise StepError('%s is new and patched at once' % path)
        link = behind['new']
        executable = os.access(link, os.X_OK)
        return Result(read(link), '100755' if executable else '100644', link)
    if old is None:
        raise StepError('%s: %s %s has no %s' % (
            os.path.relpath(sorted(behind.values())[0], REPO), component.name,
            version, path))
    data = old
    if 'cocci' in behind:
        macros = b''
        if component.macros:
            macros = pristine.file_at(key, component.macros) or b''
            macros += read(os.path.join(HERE, 'macros.h'))
        data = smpl.apply(read(behind['cocci']).decode(),
                          os.path.relpath(behind['cocci'], REPO), data, path,
                          version, macros, component.style)
    if 'insert' in behind:
        data = textinsert.apply(read(behind['insert']).decode(),
                                os.path.relpath(behind['insert'], REPO), data, path,
                                version)
    return Result(data, pristine.mode_at(key, path))


def make_commits(tree, key, blocks, results):
    """Chain of commits on top of the pristine one; sets BRANCH and HEAD.

    Returns the last commit and how many there are.
    """
    repo = os.path.join(tree, '.git')
    base = pristine.git(pristine.repository(key), 'rev-parse', pristine.BRANCH)
    index = os.path.join(repo, 'userfault.index')
    name, _, email = pristine.AUTHOR.rpartition(' ')
    identity = {'GIT_INDEX_FILE': index}
    for who in ('AUTHOR', 'COMMITTER'):
        identity.update({'GIT_%s_NAME' % who: name, 'GIT_%s_DATE' % who: pristine.DATE,
                         'GIT_%s_EMAIL' % who: email.strip('<>')})
    pristine.git(repo, 'read-tree', base, env=identity)
    parent, count = base, 0
    for block in blocks:
        rows = []
        for path in block.paths:
            one = results[path]
            blob = os.path.join(repo, 'userfault.blob')
            write(blob, one.data)
            digest = pristine.git(repo, 'hash-object', '-w', '--no-filters', blob)
            rows.append('%s %s\t%s' % (one.mode, digest, path))
        pristine.git(repo, 'update-index', '--index-info', env=identity,
                     stdin=None, input='\n'.join(rows) + '\n')
        new_tree = pristine.git(repo, 'write-tree', env=identity)
        if new_tree == pristine.git(repo, 'rev-parse', parent + '^{tree}'):
            continue            # its rules are not for this version
        parent = pristine.git(repo, 'commit-tree', new_tree, '-p', parent, '-F', '-',
                              env=identity, stdin=None, input=block.message())
        count += 1
    pristine.git(repo, 'update-ref', BRANCH, parent)
    pristine.git(repo, 'symbolic-ref', 'HEAD', BRANCH)
    os.unlink(index)
    return parent, count


def new_tree(component, key):
    """Check the pristine tree out, once."""
    tree = component.tree()
    need_space(build_dir(), component.gigabytes, 'the build tree of ' + component.name)
    origin = pristine.repository(key)
    sweep(build_dir())
    with timed('checking out %s' % key), fresh_dir(tree) as temporary:
        repo = os.path.join(temporary, '.git')
        pristine.git(repo, 'init', '-q', cwd=temporary)
        for name in ('info/attributes', 'objects/info/alternates'):
            text = read(os.path.join(origin, 'info/attributes')) \
                if name.endswith('attributes') else os.path.join(origin, 'objects\n')
            write(os.path.join(repo, name), text)
        base = pristine.git(origin, 'rev-parse', pristine.BRANCH)
        pristine.git(repo, 'config', 'core.bare', 'false')
        pristine.git(repo, 'config', 'gc.auto', '0')
        pristine.git(repo, 'update-ref', pristine.BRANCH, base)
        pristine.git(repo, 'symbolic-ref', 'HEAD', pristine.BRANCH)
        if component.sparse:
            pristine.git(repo, 'config', 'core.sparseCheckout', 'true')
            rows = ['/*'] + ['!/%s/' % folder for folder in component.sparse]
            write(os.path.join(repo, 'info', 'sparse-checkout'),
                  '\n'.join(rows) + '\n')
        pristine.git(repo, 'read-tree', '-m', '-u', base, cwd=temporary,
                     env={'GIT_WORK_TREE': temporary})
    return tree


def load_state(tree):
    try:
        return json.loads(read(os.path.join(tree, '.git', STATE)).decode())
    except (OSError, ValueError):
        return {}


def place(tree, path, result):
    """Put one file into the work tree; returns whether it changed."""
    target = os.path.join(tree, path)
    if result.link:
        if os.path.islink(target) and os.readlink(target) == result.link:
            return False
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.lexists(target):
            os.unlink(target)
        os.symlink(result.link, target)
        return True
    if os.path.islink(target):
        os.unlink(target)
    return write(target, result.data, 0o755 if result.mode == '100755' else 0o644)


def restore(tree, key, path):
    """Back to the pristine state of one path."""
    target = os.path.join(tree, path)
    if os.path.islink(target):
        os.unlink(target)
    data = pristine.file_at(key, path)
    if data is not None:
        mode = 0o755 if pristine.mode_at(key, path) == '100755' else 0o644
        write(target, data, mode)
    elif os.path.lexists(target):
        os.unlink(target)


def read_series(component, cure=True):
    """The blocks to apply, after the check that none is forgotten."""
    where = os.path.relpath(component.series, REPO)
    if not os.path.exists(component.series):
        raise StepError('%s does not exist' % where)
    blocks = seriesfile.parse(component.series, where)
    seriesfile.check(blocks, component.root, where, component.own, component.skip)
    if not cure:
        blocks = [block for block in blocks
                  if not all(path.startswith('target/i386/tcg/')
                             for path in block.paths)]
    return blocks


def integrate(name):
    """Bring build/NAME up to date; returns (folder, version, commit)."""
    component = COMPONENTS[name]
    config = load_config()
    key, version = source_of(component, config)
    blocks = read_series(component, config.get('emulator_cure', True))
    tree = component.tree()
    with lock(tree):
        # All results first: a rule that does not fit leaves the tree as it was.
        results = {path: result_of(component, key, version, path)
                   for block in blocks for path in block.paths}
        state = load_state(tree)
        if state.get('key') != key:
            if os.path.isdir(tree):
                say('build/%s holds another source; making it anew' % name)
            new_tree(component, key)
            state = {}
        changed = 0
        for path in sorted(set(state.get('placed', ())) - set(results)):
            restore(tree, key, path)
            changed += 1
        placed = sorted(set(state.get('placed', ())) | set(results))
        path_of_state = os.path.join(tree, '.git', STATE)
        write(path_of_state, json.dumps({'key': key, 'placed': placed}) + '\n')
        for path, result in sorted(results.items()):
            changed += place(tree, path, result)
        head, commits = make_commits(tree, key, blocks, results)
        sync_index(tree, component, results)
        write(path_of_state, json.dumps({'key': key, 'placed': sorted(results)}) + '\n')
    say('build/%s: %s %s, %d commits, %d files of ours, %d changed now'
        % (name, name, version, commits, len(results), changed))
    return tree, version, head


def sync_index(tree, component, results):
    """Index = last commit, so that git status and git diff speak of real edits."""
    repo = os.path.join(tree, '.git')
    environment = {'GIT_WORK_TREE': tree}
    links = [path for path, result in results.items() if result.link]
    if links:
        # They carry "assume unchanged", which read-tree will not overwrite.
        pristine.git(repo, 'update-index', '--force-remove', '--stdin',
                     env=environment, cwd=tree, stdin=None,
                     input='\n'.join(sorted(links)) + '\n')
    pristine.git(repo, 'read-tree', '--reset', 'HEAD', env=environment, cwd=tree)
    pristine.git(repo, 'update-index', '-q', '--unmerged', '--refresh',
                 env=environment, cwd=tree, tolerate=True)
    if links:
        # Links on disk, files in the commit: not an edit.
        pristine.git(repo, 'update-index', '--assume-unchanged', '--stdin',
                     env=environment, cwd=tree, stdin=None,
                     input='\n'.join(sorted(links)) + '\n')


def step(argv):
    parser = argparse.ArgumentParser(prog='integrate', description=__doc__)
    parser.add_argument('component', choices=sorted(COMPONENTS))
    parser.add_argument('--check', action='store_true',
                        help='only check that every mirrored file is in one block')
    options = parser.parse_args(argv)
    if options.check:
        read_series(COMPONENTS[options.component])
    else:
        integrate(options.component)


if __name__ == '__main__':
    main(step)
