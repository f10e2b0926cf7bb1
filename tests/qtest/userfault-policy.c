/*
 * KVM userfault without a migration: policies that are refused, what can be
 * asked, the schema
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "userfault-util.h"

/* ------------------------------------------------------------------------- */
/* Policies that are refused */

static void assert_refused(const char *options, const char *first,
                           const char *second)
{
    g_autofree char *said = NULL;
    int code = run_qemu(options, &said);

    g_test_message("%s: %d: %s", options, code, said);
    g_assert_cmpint(code, ==, 1);
    g_assert_nonnull(strstr(said, first));
    g_assert_nonnull(strstr(said, second));
}

static void test_unknown_values_refused(void)
{
    assert_refused("-machine none -accel kvm,userfault=maybe",
                   "Parameter 'userfault'", "does not accept value 'maybe'");
    assert_refused("-machine q35 -S -accel kvm "
                   "-global migration.postcopy-userfault=maybe",
                   "Parameter 'postcopy-userfault'",
                   "does not accept value 'maybe'");
    assert_refused("-machine q35 -S -accel kvm "
                   "-global migration.postcopy-userfault-readahead=65",
                   "Parameter 'postcopy-userfault-readahead'",
                   "expects a number of pages from 0 to 64");
    assert_refused("-machine q35 -S -accel kvm "
                   "-global migration.postcopy-userfault-readahead=-1",
                   "Parameter 'postcopy-userfault-readahead'", "expects");
    assert_refused("-machine q35 -S -accel kvm "
                   "-global migration.postcopy-userfault-readahead=some",
                   "Parameter 'postcopy-userfault-readahead'", "expects");
}

static void test_readahead_accepted(void)
{
    static const char *pages[] = { "0", "1", "64" };
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(pages); i++) {
        g_autofree char *said = NULL;
        g_autofree char *options = g_strdup_printf(
            "-machine q35 -S -accel tcg "
            "-global migration.postcopy-userfault-readahead=%s", pages[i]);

        g_assert_cmpint(run_qemu(options, &said), ==, 0);
    }
}

static void test_on_without_kvm_refused(void)
{
    assert_refused("-machine q35 -S -accel tcg "
                   "-global migration.postcopy-userfault=on",
                   "migration.postcopy-userfault=on: ",
                   "the accelerator is not KVM");
}

static void test_off_without_kvm_accepted(void)
{
    g_autofree char *said = NULL;

    g_assert_cmpint(run_qemu("-machine q35 -S -accel tcg "
                             "-global migration.postcopy-userfault=off",
                             &said), ==, 0);
}

static void refuse_without_support(const char *how, const char *reason)
{
    if (!hide_userfault(how)) {
        return;
    }
    assert_refused("-machine none -accel kvm,userfault=on", "userfault=on: ",
                   reason);
    assert_refused("-machine q35 -S -accel kvm "
                   "-global migration.postcopy-userfault=on",
                   "migration.postcopy-userfault=on: ", reason);
    unhide_userfault();
}

static void test_on_without_support_refused(void)
{
    refuse_without_support(BREAK_ALL, "the host kernel does not know");
}

static void test_on_with_broken_support_refused(void)
{
    refuse_without_support(BREAK_CLEARING, "the host kernel accepts");
}

/* ------------------------------------------------------------------------- */
/* What can be asked before a migration */

static void test_help(void)
{
    g_autofree char *said = NULL;

    g_assert_cmpint(run_qemu("-accel kvm,help", &said), ==, 0);
    g_test_message("-accel kvm,help: %s", said);
    g_assert_nonnull(strstr(said, "  userfault=<OnOffAuto>"));
    g_assert_nonnull(strstr(said, "  dirty-ring-size="));
}

/* The answer of the accelerator to qom-get; the caller's reference */
static QDict *ask_accelerator(QTestState *qemu, const char *property)
{
    QDict *answer = qtest_qmp(qemu, "{'execute': 'qom-get', 'arguments': "
                              "{'path': '/machine/kvm-accel', "
                              "'property': %s}}", property);

    g_assert(qdict_haskey(answer, "return"));
    return answer;
}

static void assert_supported(bool supported, const char *reason)
{
    QTestState *qemu = qtest_init("-machine none -accel kvm,userfault=auto");
    QDict *found = ask_accelerator(qemu, "userfault-supported");
    QDict *why = ask_accelerator(qemu, "userfault-reason");
    QDict *policy = ask_accelerator(qemu, "userfault");

    g_assert_cmpint(qdict_get_bool(found, "return"), ==, supported);
    g_assert(g_str_has_prefix(qdict_get_str(why, "return"), reason));
    g_assert_cmpint(!*qdict_get_str(why, "return"), ==, supported);
    g_assert_cmpstr(qdict_get_str(policy, "return"), ==, "auto");
    qobject_unref(found);
    qobject_unref(why);
    qobject_unref(policy);
    qtest_quit(qemu);
}

static void test_properties(void)
{
    if (!have_userfault()) {
        return;
    }
    assert_supported(true, "");
    if (hide_userfault(BREAK_ALL)) {
        assert_supported(false, "the host kernel does not know");
        unhide_userfault();
    }
}

/* ------------------------------------------------------------------------- */
/* The schema */

/* Type of member @name of object type @type of @schema, NULL if missing */
static const char *member_type(const QList *schema, const char *type,
                               const char *name)
{
    const QListEntry *e, *m;

    QLIST_FOREACH_ENTRY(schema, e) {
        QDict *entity = qobject_to(QDict, qlist_entry_obj(e));

        if (!g_str_equal(qdict_get_str(entity, "name"), type)) {
            continue;
        }
        QLIST_FOREACH_ENTRY(qdict_get_qlist(entity, "members"), m) {
            QDict *member = qobject_to(QDict, qlist_entry_obj(m));

            if (g_str_equal(qdict_get_str(member, "name"), name)) {
                return qdict_get_str(member, "type");
            }
        }
    }
    return NULL;
}

static const char *return_type(const QList *schema, const char *command)
{
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(schema, e) {
        QDict *entity = qobject_to(QDict, qlist_entry_obj(e));

        if (g_str_equal(qdict_get_str(entity, "name"), command)) {
            return qdict_get_str(entity, "ret-type");
        }
    }
    return NULL;
}

static void test_schema(void)
{
    QTestState *qemu = qtest_init("-machine none");
    QDict *answer = qtest_qmp(qemu, "{'execute': 'query-qmp-schema'}");
    QList *schema = qdict_get_qlist(answer, "return");
    const char *info = return_type(schema, "query-migrate");
    const char *service = member_type(schema, info, "postcopy-userfault");

    g_assert_nonnull(service);
    g_assert_nonnull(member_type(schema, service, "status"));
    g_assert_nonnull(member_type(schema, service, "exits"));
    g_assert_nonnull(member_type(schema, service, "pages-readahead"));
    g_assert_nonnull(member_type(schema, service, "readahead-pages"));
    g_assert_nonnull(member_type(schema, service, "readahead-requests"));
    g_assert_nonnull(member_type(schema, service, "readahead-used"));
    g_assert_nonnull(member_type(schema, service, "readahead-dropped"));
    g_assert_nonnull(member_type(schema, service, "latency"));
    g_assert_null(member_type(schema, service, "no-such-member"));
    qobject_unref(answer);
    qtest_quit(qemu);
}

void userfault_policy_tests_add(bool has_kvm)
{
    qtest_add_func("userfault/policy/on-without-kvm-refused",
                   test_on_without_kvm_refused);
    qtest_add_func("userfault/policy/off-without-kvm-accepted",
                   test_off_without_kvm_accepted);
    qtest_add_func("userfault/policy/readahead-accepted",
                   test_readahead_accepted);
    qtest_add_func("userfault/schema/has-statistics", test_schema);
    if (has_kvm) {
        qtest_add_func("userfault/policy/listed-by-help", test_help);
        qtest_add_func("userfault/policy/reason-is-told", test_properties);
        qtest_add_func("userfault/policy/unknown-values-refused",
                       test_unknown_values_refused);
        qtest_add_func("userfault/policy/on-without-support-refused",
                       test_on_without_support_refused);
        qtest_add_func("userfault/policy/on-with-broken-support-refused",
                       test_on_with_broken_support_refused);
    }
}
