# SPDX-License-Identifier: GPL-2.0-or-later
"""The fuzz targets: which files they are made of, and their build by ninja.

Files of QEMU, the project's among them, are compiled with the command by which
QEMU's build compiled them, by clang, with the sanitizers.  Of those that need
no sanitizers (sockets, QOM, locks) QEMU's own archives are linked.
"""

import os
import shlex
import subprocess

import compiled
from build import environment
from common import (REPO, StepError, build_dir, load_config, lock, need_tool, run,
                    write)

HERE = os.path.dirname(os.path.abspath(__file__))
FLAGS = ['-fsanitize=fuzzer-no-link,address,undefined',
         '-fno-sanitize-recover=undefined', '-fno-omit-frame-pointer',
         '-ffunction-sections', '-fdata-sections']
LINK = ['clang', '-no-pie', '-fsanitize=fuzzer,address,undefined', '-Wl,--gc-sections',
        # What is never called is not there, and would crash.
        '-Wl,--unresolved-symbols=ignore-all']
ARCHIVES = ('libio.a', 'libqom.a', 'libcrypto.a', 'libauthz.a', 'libqemuutil.a')
# Files whose static functions the targets call: peek-NAME.c in their place.
PEEKED = ('migration', 'ram', 'savevm', 'postcopy-ram', 'postcopy-urgent-out')
COMMON = ('migration/qemu-file.c', 'migration/options.c',
          'migration/migration-stats.c')
# All of the service is linked into both, as QEMU's own files call it.
SERVICE = ('migration/postcopy-userfault.c', 'migration/postcopy-userfault-channel.c',
           'migration/postcopy-userfault-info.c', 'migration/postcopy-request.c',
           'migration/postcopy-wait.c', 'migration/postcopy-readahead.c',
           'migration/postcopy-recover.c', 'migration/postcopy-place.c',
           'migration/postcopy-answer.c', 'migration/postcopy-order.c',
           'migration/postcopy-handover.c', 'migration/postcopy-along.c',
           'migration/postcopy-urgent-in.c',
           'accel/kvm/kvm-userfault.c', 'accel/kvm/userfault-map.c',
           'accel/kvm/userfault-prefault.c')
TARGETS = {
    'destination': (('destination.c', 'check.c', 'stream.c', 'vcpu.c'), ('syscall',)),
    'source': (('source.c',), ('ram_save_queue_pages',)),
}
OWN = ('machine.c', 'channel.c')
# Functions that machine.c takes the place of, also for QEMU's archives
WRAPPED = ('call_rcu1', 'ioctl', 'qemu_clock_get_ns', 'qemu_sem_timedwait')
# Targets with a planted fault are named so.
PLANTED = 'planted-'


def folder():
    return os.path.join(build_dir(), 'fuzz')


def commands():
    """{path in QEMU's tree: (folder, words)}"""
    wanted = {os.path.realpath(os.path.join(build_dir(), 'qemu', path)): path
              for path in (*COMMON, *SERVICE,
                           *(f'migration/{name}.c' for name in PEEKED))}
    found = {wanted[path]: (where, compiled.for_clang(words))
             for path, where, words in compiled.entries() if path in wanted}
    lacking = set(wanted.values()) - set(found)
    if lacking:
        raise StepError(f'{sorted(lacking)[0]} is not in the QEMU that was built; '
                        'run make qemu')
    return found


class Ninja:
    """The text of a build.ninja"""

    def __init__(self, prefix):
        self.known = commands()
        self.prefix = prefix
        self.lines = ['rule cc',
                      '  command = cd $where && $words -MMD -MF $out.d -o $out',
                      '  depfile = $out.d', '  deps = gcc',
                      '  description = $in',
                      'rule link', '  command = $words -o $out', '']

    def statement(self, rule, output, inputs, **variables):
        self.lines.append(f'build {output}: {rule} {" ".join(inputs)}')
        self.lines += [f'  {name} = {value}' for name, value in variables.items()]

    def compile(self, output, like, source=None, peeked=None):
        """Compile @source with the command of the file @like."""
        where, words = self.known[like]
        source = source or os.path.join(where, words[-1])
        # A planted copy stands in a folder migration/, too.
        first = ['-iquote', os.path.dirname(os.path.dirname(peeked))] if peeked else []
        beside = os.path.join(build_dir(), 'qemu', os.path.dirname(like))
        ours = source.startswith(HERE) and '/peek-' not in source
        words = [words[0], *first, *words[1:-2], *FLAGS, '-Wall' if ours else '-w',
                 '-Werror=implicit-function-declaration',
                 '-iquote', HERE, '-iquote', beside,
                 '-iquote', os.path.join(REPO, 'accel', 'kvm'), '-c', source]
        self.statement('cc', output, [source], where=where, words=shlex.join(words))
        return output

    def objects(self, own, replaced):
        """Objects of a target; @replaced: {path: other source}"""
        found = []
        for path in (*COMMON, *SERVICE):
            found.append(self.named(path, path, replaced.get(path)))
        for name in PEEKED:
            like = f'migration/{name}.c'
            found.append(self.named(like, f'peek-{name}.c',
                                    os.path.join(HERE, f'peek-{name}.c'),
                                    replaced.get(like)))
        for name in (*OWN, *own):
            found.append(self.named('accel/kvm/kvm-userfault.c', name,
                                    os.path.join(HERE, name)))
        return found

    def named(self, like, name, source=None, peeked=None):
        """@peeked: what a peek-NAME.c includes in place of QEMU's file"""
        output = name.replace('/', '_')[:-2] + '.o'
        if peeked or (source and os.path.dirname(source) != HERE):
            output = self.prefix + output
        output = os.path.join(folder(), output)
        if f'build {output}:' not in '\n'.join(self.lines):
            self.compile(output, like, source, peeked)
        return output

    def target(self, name, replaced):
        own, wrapped = TARGETS[name]
        objects = self.objects(own, replaced)
        tree = os.path.join(build_dir(), 'qemu-build')
        archives = [os.path.join(tree, archive) for archive in ARCHIVES]
        libraries = run(['pkg-config', '--libs', 'glib-2.0', 'gnutls'], 'pkg-config')
        words = [*LINK, *(f'-Wl,--wrap={function}' for function in (*WRAPPED, *wrapped)), *objects,
                 '-Wl,--start-group', *archives, '-Wl,--end-group',
                 *shlex.split(libraries), '-lm']
        self.statement('link', self.prefix + name, [*objects, *archives],
                       words=shlex.join(words))


def ninja(where, *arguments):
    """Run ninja; a StepError shows the compiler's words."""
    done = subprocess.run(['nice', 'ninja', '-C', where, *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors='replace', check=False,
                          env=environment(load_config()))
    if done.returncode:
        wrong = done.stdout[max(done.stdout.find('FAILED'), 0):]
        raise StepError(f'the fuzz targets do not build:\n{wrong}')


def build(names, replaced=None):
    """Build targets; returns their folder.  @replaced: see Ninja.objects()"""
    need_tool('clang')
    where, file = folder(), 'planted.ninja' if replaced else 'build.ninja'
    with lock(where):
        text = Ninja(PLANTED if replaced else '')
        for name in names:
            text.target(name, replaced or {})
        ninja(os.path.join(build_dir(), 'qemu-build'), *ARCHIVES)
        write(os.path.join(where, file), '\n'.join(text.lines) + '\n')
        ninja(where, '-f', file)
    return where
