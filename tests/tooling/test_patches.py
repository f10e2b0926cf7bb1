# SPDX-License-Identifier: GPL-2.0-or-later
"""Do semantic patches and insertions stop as soon as they no longer fit?"""

import unittest

import support
import smpl
import textinsert
from common import StepError

SOURCE = b'''int f(int a)
{
    start(a);
    if (a) {
        start(a + 1);
    }
    return a;
}
'''
RULE = '''// SPDX
//# rule add places %s -- a reason
@@
expression e;
@@
  start(e);
+ finish(e);
'''


class SemanticPatch(support.Case):

    def apply(self, text, source=SOURCE, version='10.0.13'):
        return smpl.apply(text, 'dir/x.cocci', source, 'dir/x.c', version,
                          style=('--indent', '4'))

    def test_right_count_is_applied(self):
        self.assertEqual(self.apply(RULE % 2).count(b'finish('), 2)

    def test_second_run_gives_the_same(self):
        self.assertEqual(self.apply(RULE % 2), self.apply(RULE % 2))

    def test_wrong_count_names_rule_file_version_and_numbers(self):
        with self.assertRaises(StepError) as caught:
            self.apply(RULE % 3)
        for part in ('dir/x.cocci:2', 'rule add', 'dir/x.c', '10.0.13', 'wanted 3',
                     'got 2'):
            self.assertIn(part, str(caught.exception))

    def test_no_match_stops(self):
        with self.assertRaisesRegex(StepError, 'wanted 2 places, got 0'):
            self.apply(RULE % 2, b'int g;\n')

    def test_count_depends_on_version(self):
        text = RULE % '7[9.1] 2[10.0]'
        self.apply(text)
        with self.assertRaisesRegex(StepError, 'wanted 7'):
            self.apply(text, version='9.1.2')
        with self.assertRaisesRegex(StepError, 'nothing about version 11.0.0'):
            self.apply(text, version='11.0.0')

    def test_rule_for_other_versions_is_left_out(self):
        text = RULE % '0 2[10.0]'
        self.assertEqual(self.apply(text, version='10.2.1'), SOURCE)
        self.assertEqual(self.apply(text).count(b'finish('), 2)

    def test_version_prefix_ends_at_a_dot(self):
        with self.assertRaisesRegex(StepError, 'nothing about version 10.01'):
            self.apply(RULE % '2[10.0]', version='10.01')

    def test_invalid_smpl_stops_with_its_message(self):
        with self.assertRaisesRegex(StepError, 'spatch: .*'):
            self.apply('//# rule broken places 1 -- why\n@@\n@@\n+ if (\n')

    def test_header_without_reason_is_refused(self):
        with self.assertRaisesRegex(StepError, 'expected "//# rule'):
            self.apply('//# rule add places 1\n@@\n@@\n- start(a);\n')


class Insertion(support.Case):

    def apply(self, text, source=b'one\ntwo\nthree\ntwo and a half'):
        return textinsert.apply(text, 'dir/F.insert', source, 'dir/F', '6.12.1')

    def test_after_and_before(self):
        got = self.apply('# why\nafter: ^one$\n+uno\n+\nbefore: three\n+tres\n')
        self.assertEqual(got, b'one\nuno\n\ntwo\ntres\nthree\ntwo and a half')

    def test_last_line_without_newline(self):
        self.assertTrue(self.apply('after: half\n+end\n').endswith(b' half\nend\n'))

    def test_no_match_and_two_matches_stop(self):
        for anchor, got in (('four', 0), ('two', 2)):
            with self.assertRaisesRegex(StepError, 'F.insert:1: /%s/ on dir/F of '
                                        'version 6.12.1: wanted 1 line, got %d'
                                        % (anchor, got)):
                self.apply('after: %s\n+x\n' % anchor)

    def test_group_without_text_is_refused(self):
        with self.assertRaisesRegex(StepError, 'nothing to insert'):
            self.apply('after: one\n')


if __name__ == '__main__':
    unittest.main()
