#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Build what runs: build.py qemu [ninja targets] | build.py kernel [VARIANT]
                 | build.py sanitized|tsan [ninja targets] | build.py count

    build/qemu-PROFILE   QEMU's build folder; build/qemu-build points to the
                         configured profile's
    build/qemu-sanitized the same with sanitizers, beside that
    build/qemu-tsan      the same with the thread sanitizer
    build/qemu-count     an emulator for the test host that loads plugins, and
                         the plugin that counts (tests/bench/count)
    build/linux-testhost the kernel's build folder
    build/bzImage        the kernel of test host and guests
    build/bzImage-VARIANT  one that looks for errors of its own, for the test
                         host alone: tests/kernel/debug/VARIANT.config

Packages are checked first, always, also when everything else comes from the
cache.  Logs: build/logs/.
"""

import glob
import json
import os
import re
import shutil
import subprocess

import deps
import integrate
import progress
from common import (REPO, StepError, build_dir, cache_dir, fresh_dir, load_config,
                    lock, main, need_space, read, run, say, sha256, sha256_file, write)
from profiles import FIRMWARE, PROFILES

FRAGMENT = os.path.join(REPO, 'tests', 'kernel', 'testhost.config')
PLUGIN = [os.path.join(REPO, 'tests', 'bench', 'count', name)
          for name in ('plugin.c', 'task.c', 'decode.c')]
DEBUG = os.path.join(REPO, 'tests', 'kernel', 'debug')
# What becomes arch/x86/kvm/*.o and, made from there, kvm.o
KVM_FOLDERS = ('arch/x86/kvm', 'virt/kvm')
SYSTEM_PATH = '/usr/sbin:/usr/bin:/sbin:/bin'
# Groups of packages that profiles need beyond the common one
PACKAGES = {'server': ['server'], 'sanitized': ['fuzz'], 'tsan': ['fuzz']}
# Profiles that are built beside the configured one, for the tests
BESIDE = ('sanitized', 'tsan')
# A vhost-user back end with postcopy, for the tests, beside QEMU itself
SMALL = ['qemu-system-x86_64', 'contrib/vhost-user-blk/vhost-user-blk']


def environment(config):
    """Environment of compilers: the system's tools first, ccache in front."""
    result = dict(os.environ)
    path = [SYSTEM_PATH, os.environ.get('PATH', '')]
    if config.get('meson'):
        path.insert(0, os.path.join(config['meson'], 'usr', 'bin'))
        result['PYTHONPATH'] = os.path.join(config['meson'],
                                            'usr/lib/python3/dist-packages')
    else:
        result.pop('PYTHONPATH', None)
    if os.path.isdir('/usr/lib/ccache'):
        path.insert(0, '/usr/lib/ccache')
        # Hits across build folders: paths below this one do not count.
        result.update(CCACHE_BASEDIR=build_dir(), CCACHE_NOHASHDIR='1')
    result.update(PATH=':'.join(path), LC_ALL='C.UTF-8')
    for name in ('CFLAGS', 'LDFLAGS', 'PYTHON', 'MAKEFLAGS', 'MAKELEVEL', 'MFLAGS'):
        result.pop(name, None)
    return result


def jobs():
    return os.environ.get('JOBS') or str(os.cpu_count() or 1)


def warnings_of_ours(log, names):
    """Compiler warnings in the project's own files; they are worth a line."""
    ours = '|'.join(re.escape(os.path.basename(name)) for name in names)
    if not ours:
        return []
    pattern = re.compile(r'(?:^|/)(?:%s):\d+:.*warning:' % ours)
    with open(log, errors='replace') as stream:
        return [line.strip() for line in stream if pattern.search(line)]


def new_files(component):
    """Paths of new (not patched) files of a component."""
    part = integrate.COMPONENTS[component]
    return [path for block in integrate.read_series(part) for path in block.paths
            if os.path.isfile(os.path.join(part.root, path))]


def report_warnings(component, log):
    for line in warnings_of_ours(progress.log_path(log), new_files(component))[:10]:
        say('warning in our code: ' + line)


def link(target, path):
    """Make `path` a symbolic link to `target`; an equal one is left alone."""
    if os.path.islink(path) and os.readlink(path) == target:
        return
    if os.path.islink(path):
        os.unlink(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(target, path)


def link_firmware(folder):
    """A QEMU run from its build folder looks for firmware below qemu-bundle."""
    for path in FIRMWARE:
        inside = os.path.join(folder, 'qemu-bundle') + path
        # A folder is the build's own: with --prefix=/usr it has one there.
        if os.path.isdir(path) and (os.path.islink(inside)
                                    or not os.path.exists(inside)):
            link(path, inside)


def configure_qemu(config, tree, folder, env, log, more=()):
    """Run QEMU's configure if its options or the sources' key changed."""
    options = PROFILES[config['profile']] + config['qemu_options'] + list(more)
    stamp = os.path.join(folder, 'userfault.stamp')
    state = json.dumps([options, config['sources']['qemu']['key'], tree,
                        config.get('meson')])
    if os.path.exists(stamp) and read(stamp).decode() == state \
       and os.path.exists(os.path.join(folder, 'build.ninja')):
        return
    if os.path.isdir(folder):
        shutil.rmtree(folder)
    os.makedirs(folder)
    seconds, _ = progress.run_long(
        [os.path.join(tree, 'configure'), '--python=/usr/bin/python3'] + options,
        "QEMU's configure", log, cwd=folder, env=env)
    write(stamp, state)
    say("QEMU's configure (%s): %.0f s" % (config['profile'], seconds))


def build_qemu(targets, profile=None):
    """Build @targets of the configured profile, or of @profile beside it."""
    config = load_config()
    name = profile or config['profile']
    deps.require(['build'] + PACKAGES.get(name, []))
    need_space(build_dir(), 1.5, 'building QEMU')
    tree, _, _ = integrate.integrate('qemu')
    config = dict(load_config(), profile=name)
    env = environment(config)
    folder = os.path.join(build_dir(), 'qemu-' + name)
    log = 'qemu' + ('-' + profile if profile else '')
    with lock(folder):
        progress.fresh_log(log)
        configure_qemu(config, tree, folder, env, log)
        if not targets:
            targets = ['all'] if name == 'server' else SMALL
        seconds, steps = progress.run_long(
            ['ninja', '-C', folder, '-j', jobs()] + targets, 'QEMU', log, env=env)
        link_firmware(folder)
        if not profile:
            link('qemu-' + name, os.path.join(build_dir(), 'qemu-build'))
    report_warnings('qemu', log)
    say('QEMU: %d steps in %.0f s' % (steps, seconds))


def build_count():
    """QEMU once more, as plugins slow it down; most of it comes from ccache."""
    deps.require(['build'])
    need_space(build_dir(), 1.5, 'building QEMU')
    tree, _, _ = integrate.integrate('qemu')
    config = load_config()
    env = environment(config)
    folder = os.path.join(build_dir(), 'qemu-count')
    with lock(folder):
        progress.fresh_log('count')
        configure_qemu(config, tree, folder, env, 'count', ['--enable-plugins'])
        seconds, steps = progress.run_long(
            ['ninja', '-C', folder, '-j', jobs(), SMALL[0]], 'QEMU with plugins',
            'count', env=env)
        link_firmware(folder)
        build_plugin(tree, folder, env)
    say('QEMU with plugins: %d steps in %.0f s' % (steps, seconds))


def build_plugin(tree, folder, env):
    flags = subprocess.run(['pkg-config', '--cflags', '--libs', 'glib-2.0'], env=env,
                           stdout=subprocess.PIPE, universal_newlines=True, check=True)
    part = os.path.join(folder, 'count.so.part')
    run(['gcc', '-std=gnu11', '-O2', '-g', '-Wall', '-Wextra', '-Wno-unused-parameter',
         '-Werror', '-fPIC', '-shared', '-I', os.path.join(tree, 'include/qemu'),
         '-o', part] + PLUGIN + flags.stdout.split(), 'compiling the plugin', env=env)
    os.replace(part, os.path.join(folder, 'count.so'))


def variants():
    """Kernels of the test host that look for errors of their own."""
    return sorted(os.path.basename(path)[:-len('.config')]
                  for path in glob.glob(os.path.join(DEBUG, '*.config')))


def variant_path(variant):
    return os.path.join(DEBUG, variant + '.config')


def fragment(version, variant=None):
    """Options for this kernel; a line "[6.12] CONFIG_..." is for that one only."""
    lines = []
    text = read(FRAGMENT).decode()
    if variant:
        text += read(variant_path(variant)).decode()
    for line in text.splitlines():
        match = re.match(r'^\[([\d.]+)\] (.*)$', line)
        if not match:
            lines.append(line)
        elif (version + '.').startswith(match.group(1) + '.'):
            lines.append(match.group(2))
    return '\n'.join(lines) + '\n'


def kvm_objects(tree):
    """Objects of KVM by the names that kbuild has for them in arch/x86/kvm."""
    for folder in KVM_FOLDERS:
        for path in glob.glob(os.path.join(tree, folder, '**', '*.c'),
                              recursive=True):
            yield os.path.relpath(os.path.splitext(path)[0] + '.o',
                                  os.path.join(tree, KVM_FOLDERS[0]))


def variant_make(tree, variant):
    """
    Variables of make: kcsan checks the code of KVM alone, and not what has the
    same name in another folder, such as regs.c of the boot code.
    """
    if variant != 'kcsan':
        return []
    there = '$(if $(filter %s,$(obj)),y)' % KVM_FOLDERS[0]
    return ['KCSAN_SANITIZE=n'] + ['KCSAN_SANITIZE_%s=%s' % (name, there)
                                   for name in sorted(kvm_objects(tree))]


def options_in(text):
    """{option: value} that a fragment asks for; 'n' for "is not set"."""
    wanted = {}
    for line in text.splitlines():
        match = re.match(r'^# (CONFIG_\w+) is not set$', line)
        if match:
            wanted[match.group(1)] = 'n'
        match = re.match(r'^(CONFIG_\w+)=(.*)$', line)
        if match:
            wanted[match.group(1)] = match.group(2)
    return wanted


def check_options(config_file, wanted, version, where):
    """Stop if kconfig dropped or changed an option of the fragment @wanted."""
    found = dict(re.findall(r'^(CONFIG_\w+)=(.*)$', read(config_file).decode(), re.M))
    wrong = ['%s=%s (is %s)' % (name, value, found.get(name, 'n'))
             for name, value in sorted(options_in(wanted).items())
             if found.get(name, 'n') != value]
    if wrong:
        raise StepError('%s: options without effect in Linux %s: %s'
                        % (where, version, ', '.join(wrong)))


def kernel_make(tree, folder, *arguments):
    return ['make', '-C', tree, 'O=' + folder, 'ARCH=x86_64',
            'KBUILD_BUILD_TIMESTAMP=2024-01-01', 'KBUILD_BUILD_USER=userfault',
            'KBUILD_BUILD_HOST=localhost', '-j' + jobs()] + list(arguments)


def configure_kernel(tree, folder, env, version, variant=None):
    """tinyconfig plus the fragment of the test host, and that of @variant"""
    merge_options(tree, folder, env, version, fragment(version, variant),
                  os.path.relpath(variant_path(variant) if variant else FRAGMENT,
                                  REPO))


def merge_options(tree, folder, env, version, wanted, where, base=None):
    """
    @folder's .config is tinyconfig, or the configuration @base, plus the
    options @wanted; it keeps its time if nothing changed.
    """
    scratch = folder + '.config'
    with fresh_dir(scratch) as temporary:
        config = os.path.join(temporary, '.config')
        if base is None:
            run(kernel_make(tree, temporary, 'tinyconfig'), 'tinyconfig', env=env)
        else:
            write(config, base)
        options = os.path.join(temporary, 'fragment')
        write(options, wanted)
        run([os.path.join(tree, 'scripts/kconfig/merge_config.sh'), '-m', '-O',
             temporary, config, options],
            'merging the options of the kernel', env=env, cwd=tree)
        run(kernel_make(tree, temporary, 'olddefconfig'), 'olddefconfig', env=env)
        check_options(config, wanted, version, where)
        write(os.path.join(folder, '.config'), read(config))
    shutil.rmtree(scratch)


def kernel_key(commit, env, version, variant=None):
    """Everything a finished kernel depends on."""
    compiler = subprocess.run(['gcc', '--version'], stdout=subprocess.PIPE, env=env,
                              check=False).stdout
    return sha256(commit, fragment(version, variant), compiler,
                  'layout 1' + (', %s 1' % variant if variant else ''))


def build_kernel(variant=None):
    load_config()
    deps.require(['build', 'kernel'])
    if not os.path.exists(FRAGMENT):
        raise StepError('%s is missing' % os.path.relpath(FRAGMENT, REPO))
    need_space(build_dir(), 3.0, 'building the kernel')
    tree, version, commit = integrate.integrate('linux')
    env = environment(load_config())
    kept = cache_dir('kernel', kernel_key(commit, env, version, variant))
    folder = os.path.join(build_dir(), 'linux-' + (variant or 'testhost'))
    image = os.path.join(build_dir(), 'bzImage' + ('-' + variant if variant else ''))
    log = 'kernel' + ('-' + variant if variant else '')
    with lock(folder):
        progress.fresh_log(log)
        if not os.path.isdir(kept):
            compile_kernel(tree, folder, env, version, kept, variant, log)
        else:
            say('%s: unchanged, taken from the cache' % log)
        if not os.path.exists(image) or sha256_file(image) != \
           sha256_file(os.path.join(kept, 'bzImage')):
            write(image, read(os.path.join(kept, 'bzImage')))
            write(image + '.config', read(os.path.join(kept, 'config')))
    prune_kernels(keep=kept)


def compile_kernel(tree, folder, env, version, kept, variant, log):
    os.makedirs(folder, exist_ok=True)
    configure_kernel(tree, folder, env, version, variant)
    guess = 1850
    seconds, steps = progress.run_long(
        kernel_make(tree, folder, 'bzImage', *variant_make(tree, variant)),
        'kernel', log, total=guess, env=env)
    report_warnings('linux', log)
    with fresh_dir(kept) as temporary:
        shutil.copy(os.path.join(folder, 'arch/x86/boot/bzImage'),
                    os.path.join(temporary, 'bzImage'))
        shutil.copy(os.path.join(folder, '.config'), os.path.join(temporary, 'config'))
    say('%s %s: %d steps in %.0f s' % (log, version, steps, seconds))


def prune_kernels(keep, count=20):
    """Keep the newest few images only."""
    os.utime(keep)
    found = sorted(glob.glob(cache_dir('kernel', '*')), key=os.path.getmtime)
    for path in found[:-count]:
        shutil.rmtree(path, ignore_errors=True)


def step(argv):
    if argv[:1] == ['qemu']:
        build_qemu(argv[1:])
    elif argv and argv[0] in BESIDE:
        build_qemu(argv[1:], argv[0])
    elif argv == ['count']:
        build_count()
    elif argv == ['kernel'] or argv[:1] == ['kernel'] and argv[1:] in (
            [name] for name in variants()):
        build_kernel(*argv[1:])
    else:
        raise StepError('usage: build.py %s [targets] | build.py kernel [%s] | '
                        'build.py count' % ('|'.join(('qemu',) + BESIDE),
                                            '|'.join(variants())))


if __name__ == '__main__':
    main(step)
