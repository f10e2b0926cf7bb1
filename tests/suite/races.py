# SPDX-License-Identifier: GPL-2.0-or-later
"""What the thread sanitizer says about a QEMU: does it concern this project?

QEMU itself is not free of data races, so that a report as such says nothing.  One
concerns the project if what it did is in any frame of either access.  What it did
are its own files, and the lines that it adds to QEMU's.

Reports come without names: what the sanitizer would start to look them up, anew
for each process, takes longer than a whole row in a test host that is emulated.
"""

import itertools
import re
import subprocess
from collections import Counter
from pathlib import Path

# Reports about QEMU's own code that the project's calls: two functions of QEMU, one
# in each stack and deeper than all of the project's, and why that is no race of it.
KNOWN = {
    ('ramblock_recv_bitmap_test', 'ramblock_recv_bitmap_set_range'):
        'Bits of other pages in the same word are set meanwhile.  The word is '
        "aligned and read once, and the page's own bit does not change: no two "
        'threads place the same page.',
    ('qio_channel_socket_set_delay', 'qio_channel_socket_set_fd'):
        'The thread that connects has ended its task before the main loop goes on '
        "with it; GLib's lists and locks, which order that, are not compiled for the "
        'sanitizer.',
    ('qemu_fill_buffer', 'qemu_file_set_error_obj'):
        'Who shuts a channel down leaves an error with the thread that reads it, '
        'which sees it now or with the next read that fails.  So it is without the '
        "project's qemu_get_be64(), too.",
}

BEGINS = re.compile(r'^WARNING: ThreadSanitizer: (.+?)(?: \(pid=\d+\))?$')
ENDS = re.compile(r'^={18}$')
# What is no race, but the end of the sanitizer or of QEMU
BROKEN = re.compile(r'FATAL: ThreadSanitizer|ThreadSanitizer: CHECK failed'
                    r'|ThreadSanitizer:DEADLYSIGNAL|ERROR: ThreadSanitizer')
# Stacks that tell where something came from, not what was done to it
ORIGIN = re.compile(r'^  (?:Location is|Thread T\d+ |Mutex M\d+ .*created'
                    r'|As if synchronized)')
FRAME = re.compile(r'^ +#\d+ .*\((\S+)\+0x([0-9a-f]+)\)(?: \(BuildId: \w+\))?$')
HUNK = re.compile(r'^@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@')
# The build folder is beside the tree.
IN_TREE = re.compile(r'(?:^|/)\.\./qemu/(.+)')
CALL = b'__tsan_func_entry'


class Frame:
    """A function, and where in QEMU's tree it was; path '' if elsewhere."""

    def __init__(self, function, path='', line=0):
        self.function, self.path, self.line = function, path, line

    def __str__(self):
        return (f'{self.function} {self.path}:{self.line}' if self.path
                else self.function)


class Race:
    """A report: what it is about, and the stacks of what was done."""

    def __init__(self, kind, source):
        self.kind, self.source = kind, source
        self.stacks = []            # of (module, offset), later of Frames

    def name(self, known):
        """Replace offsets by the Frames that they are: {offset: [Frame]}"""
        self.stacks = [[frame for module, offset in stack
                        for frame in known.get(offset, [Frame(module)])]
                       for stack in self.stacks]

    def frames(self):
        return [frame for stack in self.stacks for frame in stack]

    def functions(self):
        """Those that access, without the sanitizer's stand-ins for libc's."""
        return frozenset(next((frame.function for frame in stack if frame.path),
                              stack[0].function) for stack in self.stacks if stack)

    def __str__(self):
        return '\n'.join([f'{self.kind} ({self.source})'] + [
            '\n'.join(f'    {frame}' for frame in stack) + '\n'
            for stack in self.stacks])


def read(text, source):
    """The Races in the @text of one process."""
    race, stack = None, None
    for line in text.splitlines():
        begins, frame = BEGINS.match(line), FRAME.match(line)
        if begins:
            race, stack = Race(begins.group(1), source), None
        elif race and ENDS.match(line):
            yield race
            race = None
        elif race and frame and stack is not None:
            stack.append((frame.group(1), int(frame.group(2), 16)))
        elif race and line.startswith('  ') and not frame:
            stack = None
            if not ORIGIN.match(line):
                stack = []
                race.stacks.append(stack)
    if race:
        yield race                  # cut off


def names(program, offsets):
    """{offset: [Frame]} of @program, inlined functions first"""
    done = subprocess.run(
        ['addr2line', '-a', '-i', '-f', '-e', str(program)],
        input=''.join(f'{offset:#x}\n' for offset in sorted(offsets)),
        stdout=subprocess.PIPE, universal_newlines=True, check=True)
    found, frames, function = {}, [], None
    for line in done.stdout.splitlines():
        if line.startswith('0x'):
            frames = found[int(line, 16)] = []
        elif function is None:
            function = line
        else:
            place, _, number = line.split(' ')[0].rpartition(':')
            inside = IN_TREE.search(place)
            frames.append(Frame(function, inside.group(1) if inside else '',
                                int(number) if number.isdigit() else 0))
            function = None
    return found


class Ours:
    """What the project did to the QEMU in @tree."""

    def __init__(self, difference):
        self.lines = {}             # {path: set of lines}
        self.new = []               # paths
        path = ''
        for line in difference.splitlines():
            hunk = HUNK.match(line)
            if line.startswith('new file mode'):
                self.new.append(None)
            elif line.startswith('+++ '):
                path = line[len('+++ b/'):]
                self.lines[path] = set()
                if self.new[-1:] == [None]:
                    self.new[-1] = path
            elif hunk:
                first, count = int(hunk.group(1)), int(hunk.group(2) or 1)
                self.lines[path].update(range(first, first + count))

    @classmethod
    def of_tree(cls, tree):
        """By its commits: the first one is QEMU as it came."""
        def git(*words):
            return subprocess.run(
                ['git', '-C', str(tree), *words], stdout=subprocess.PIPE, check=True,
                ).stdout.decode(errors='replace')
        first = git('rev-list', '--max-parents=0', 'HEAD').split()[0]
        return cls(git('diff', '--no-color', '--no-ext-diff', '--no-renames', '-U0',
                       first, 'HEAD'))

    def has(self, frame):
        return frame.line in self.lines.get(frame.path, ())

    def concerns(self, race):
        return any(self.has(frame) for frame in race.frames())

    def below(self, stack):
        """The functions of @stack that the project's code has called"""
        return {frame.function
                for frame in itertools.takewhile(lambda it: not self.has(it), stack)}

    def is_known(self, race):
        if len(race.stacks) != 2:
            return False
        one, two = map(self.below, race.stacks)
        return any((a in one and b in two) or (b in one and a in two)
                   for a, b in KNOWN)


class Verdict:
    """What the reports below @folder say."""

    def __init__(self, folder, program, ours, resolve=names):
        self.broken, races = [], []
        for path in sorted(Path(folder).glob('*')):
            text = path.read_text(errors='replace')
            self.broken += [f'{path.name}: {line.strip()}'
                            for line in text.splitlines() if BROKEN.search(line)]
            races += read(text, path.name)
        known = resolve(program, {
            offset for race in races for stack in race.stacks
            for module, offset in stack if module == Path(program).name})
        for race in races:
            race.name(known)
        concern = [race for race in races if ours.concerns(race)]
        self.ours = [race for race in concern if not ours.is_known(race)]
        self.known = len(concern) - len(self.ours)
        self.stock = [race for race in races if race not in concern]

    def reason(self):
        """Why this is red, or ''"""
        if self.broken:
            return self.broken[0]
        if self.ours:
            return (f'{len(self.ours)} reports, first: {self.ours[0].kind}: '
                    + ' / '.join(sorted(self.ours[0].functions())))
        return ''

    def left_out(self):
        return len(self.stock) + self.known

    def write(self, path):
        """All of it with names, and how often QEMU's own come."""
        often = Counter(f'{race.kind}: ' + ' / '.join(sorted(race.functions()))
                        for race in self.stock)
        path.write_text('\n'.join(
            [str(race) for race in self.ours]
            + ['left out:'] + [f'{count:5} {what}'
                               for what, count in often.most_common()]) + '\n')


def has_looked(verdict, objects, ours):
    """
    Why it cannot be told whether there are races, or ''.  The project's parts
    must have been compiled for it; and where QEMU's own races are not seen,
    others would not be either.
    """
    compiled = 0
    for path in ours.new:
        for found in Path(objects).glob('**/' + path.replace('/', '_') + '.o'):
            if CALL not in found.read_bytes():
                return f'{found.name} was not compiled with the thread sanitizer'
            compiled += 1
    if not compiled:
        return f'no object of this project in {objects}'
    if not any(frame.path for race in verdict.stock for frame in race.frames()):
        return 'nothing was reported, not even what QEMU itself does'
    return ''
