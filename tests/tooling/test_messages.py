# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the user's page explain every message that QEMU's new code prints?"""

import glob
import os
import re
import unittest

import support

PAGE = os.path.join(support.REPO, 'docs/system/kvm-userfault.rst')
SECTION = 'Messages and what to do'
FOLDERS = ('accel', 'include', 'migration', 'subprojects', 'system', 'target')
# What puts text before the eyes of somebody, and which argument is that text
CALLS = ('error_setg_errno', 'error_setg', 'error_append_hint', 'error_prepend',
         'error_reportf_err', 'error_report', 'error_printf', 'warn_reportf_err',
         'warn_report_once', 'warn_report', 'info_report')
STRING = r'"(?:[^"\\]|\\.)*"'
# A literal of several parts, with macros such as PRIu64 between them
TEXT = r'%s(?:\s*(?:PRI\w+\s*)?%s)*' % (STRING, STRING)
PATTERN = re.compile(r'\b(%s)\(\s*(?:[^";]*?,\s*)?(%s)' % ('|'.join(CALLS), TEXT))
# Parts of messages that come in by %s
PART = re.compile(r'\bcure = (%s)' % TEXT)
FORMAT = re.compile(r'%(?:l|ll|z)?[a-z]|%$')


def own_code():
    """(path, text) of each file, of a semantic patch only what it adds."""
    for folder in FOLDERS:
        for path in glob.glob(os.path.join(support.REPO, folder, '**'), recursive=True):
            if not path.endswith(('.c', '.h', '.cocci')):
                continue
            with open(path) as stream:
                text = stream.read()
            if path.endswith('.cocci'):
                text = '\n'.join(re.findall(r'^\+(.*)', text, re.M))
            yield os.path.relpath(path, support.REPO), text


def pieces(literal):
    """The constant parts of a message, in order."""
    joined = re.sub(r'"\s*(PRI\w+)?\s*"', lambda m: 'u' if m.group(1) else '', literal)
    text = ' '.join(joined[1:-1].replace('\\n', ' ').split())
    return [piece.strip(' ;:()') for piece in FORMAT.split(text)
            if len(piece.strip(' ;:().')) > 2]


def messages(text):
    """The pieces of each message in C source @text that has any"""
    found = [match.group(2) for match in PATTERN.finditer(text)]
    found += [match.group(1) for match in PART.finditer(text)]
    return [p for p in map(pieces, found) if p]


def section(page, title):
    """What stands below @title up to the next one."""
    body = re.split(r'^%s\n-+\n' % re.escape(title), page, flags=re.M)[1]
    return re.split(r'^[^\n]+\n-{4,}\n', body, flags=re.M)[0]


def terms(body):
    """The messages a section explains: literals that begin a definition.  What
    explains them stands indented below."""
    return [' '.join(match.group(1).split()) for match in
            re.finditer(r'^``([^`]+)``\n(?=  +\S)', body, re.M)]


def explained(wanted, known):
    """Whether the pieces @wanted stand in this order in one of @known"""
    pattern = re.compile('.*'.join(re.escape(piece) for piece in wanted))
    return any(pattern.search(term) for term in known)


class Messages(unittest.TestCase):

    def test_each_is_explained(self):
        with open(PAGE) as stream:
            known = terms(section(stream.read(), SECTION))
        for path, text in own_code():
            for wanted in messages(text):
                with self.subTest(file=path, message=' ... '.join(wanted)):
                    self.assertTrue(explained(wanted, known),
                                    'not in "%s" of %s' % (SECTION, PAGE))

    def test_none_is_explained_that_nothing_prints(self):
        every = [wanted for _, text in own_code() for wanted in messages(text)]
        with open(PAGE) as stream:
            known = terms(section(stream.read(), SECTION))
        for term in known:
            with self.subTest(message=term):
                self.assertTrue(any(explained(wanted, [term]) for wanted in every))

    def test_no_call_is_overlooked(self):
        """Calls whose text is a mere %s, or in a variable, are the others."""
        calls = matched = passed_on = 0
        for _, text in own_code():
            calls += len(re.findall(r'\b(?:%s)\(' % '|'.join(CALLS), text))
            matched += sum(1 for m in PATTERN.finditer(text) if pieces(m.group(2)))
            passed_on += len(re.findall(r'error_setg\(errp, "%s",', text))
        self.assertGreater(matched, 20)
        self.assertEqual(calls, matched + passed_on)


class Extraction(unittest.TestCase):

    def test_strings_are_joined_and_formats_cut_out(self):
        self.assertEqual(messages('warn_report("a page of %" PRIu64\n'
                                  '            " bytes (%s) is gone", n, s);'),
                         [['a page of', 'bytes', 'is gone']])
        self.assertEqual(messages('error_setg_errno(errp, -ret, "cannot do it");'),
                         [['cannot do it']])
        self.assertEqual(messages('cure = "; do that";'), [['do that']])
        self.assertEqual(messages('trace_x("abc"); f("%s");'), [])

    def test_order_and_place_count(self):
        self.assertTrue(explained(['one', 'two'], ['x', 'one, then two']))
        self.assertFalse(explained(['two', 'one'], ['x', 'one, then two']))
        self.assertFalse(explained(['one', 'two'], ['one', 'two']))

    def test_terms_are_those_with_an_explanation(self):
        body = '``explained``\n  by this\n\n``bare``\n\nand ``inline``\n'
        self.assertEqual(terms(body), ['explained'])
        page = 'A\n----\nx\n\nB\n----\ny\n\nC\n----\nz\n'
        self.assertEqual(section(page, 'B').strip(), 'y')


if __name__ == '__main__':
    unittest.main()
