/*
 * Does postcopy with KVM userfault do what its users are promised?
 *
 * Policies and who wins, what a host without the feature sees, the statistics,
 * and a destination that stays responsive while its vCPUs wait for pages.
 *
 * The guest and the migration steps are those of QEMU's migration tests.  What
 * needs a kernel without KVM userfault tells the kernel of the test host to
 * break a promise; what needs one with it is skipped elsewhere.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "migration/bootfile.h"
#include "migration/framework.h"
#include "migration/migration-qmp.h"
#include "migration/migration-util.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"

#define BREAK_PARAMETER "/sys/module/kvm/parameters/userfault_break"
/* The flag is unknown: a kernel without the feature */
#define BREAK_ALL "255"
/* A cleared bit goes unnoticed: the flag is known, but no page would arrive */
#define BREAK_CLEARING "7"
#define SLOW 4096                   /* bytes per second of the background */
#define ANSWER_SECONDS 10           /* "promptly", on an idle machine */
#define PROGRESS_SECONDS 60

/* The range that QEMU's test guest writes, as migrate_end() checks it */
extern unsigned start_address;
extern unsigned end_address;

typedef struct Pair {
    QTestState *from;
    QTestState *to;
    QTestMigrationState from_state;
    QTestMigrationState to_state;
} Pair;

/* ------------------------------------------------------------------------- */
/* What the machine can do */

/* Limits are stretched where the machine is slow, say emulated. */
static int64_t scaled_us(int seconds)
{
    const char *speed = getenv("USERFAULT_SPEED");
    double factor = speed ? g_ascii_strtod(speed, NULL) : 1.0;

    return seconds * MAX(factor, 1.0) * G_USEC_PER_SEC;
}

/* Run QEMU with @options; returns its exit code, 124 if it did not end. */
static int run_qemu(const char *options, char **said)
{
    g_autofree char *command = NULL;
    g_autofree char *quoted = NULL;
    int status;

    command = g_strdup_printf("echo quit | timeout -k 5 %d %s -nodefaults "
                              "-display none -monitor stdio %s 2>&1",
                              (int)(scaled_us(30) / G_USEC_PER_SEC),
                              getenv("QTEST_QEMU_BINARY"), options);
    quoted = g_strdup_printf("/bin/bash -o pipefail -c '%s'", command);
    g_assert(g_spawn_command_line_sync(quoted, said, NULL, &status, NULL));
    g_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static bool have_userfault(void)
{
    static int have = -1;

    if (have < 0) {
        g_autofree char *said = NULL;

        have = !run_qemu("-machine none -accel kvm,userfault=on", &said);
        g_test_message("kvm,userfault=on: %s", said);
    }
    if (!have) {
        /* Somebody else found that it has: then QEMU is wrong. */
        g_assert_null(getenv("USERFAULT_EXPECTED"));
        g_test_skip("KVM has no userfault here");
    }
    return have;
}

static bool write_parameter(const char *value)
{
    FILE *f = fopen(BREAK_PARAMETER, "w");
    bool ok = f && fputs(value, f) >= 0;

    return f && fclose(f) == 0 && ok;
}

static void show_userfault(void *unused)
{
    write_parameter("0");
}

/* From here on KVM of this machine has no userfault that works. */
static bool hide_userfault(const char *how)
{
    if (!write_parameter(how)) {
        g_test_skip("this kernel cannot be made to lack KVM userfault");
        return false;
    }
    qtest_add_abrt_handler(show_userfault, BREAK_PARAMETER);
    return true;
}

static void unhide_userfault(void)
{
    qtest_remove_abrt_handler((void *)BREAK_PARAMETER);
    show_userfault(NULL);
}

/* ------------------------------------------------------------------------- */
/* Two QEMUs */

static char *tmp_path(const char *name)
{
    return g_strdup_printf("%s/%s", migration_get_env()->tmpfs, name);
}

static QTestState *start_qemu(const char *name, const char *options,
                              const char *boot, QTestMigrationState *state)
{
    g_autofree char *serial = g_strdup_printf("%s_serial", name);
    g_autofree char *serial_path = tmp_path(serial);
    g_autofree char *stderr_path = tmp_path(name);
    QTestState *qemu;

    qemu = qtest_initf("-machine q35 -m 150M -name %s,debug-threads=on "
                       "-serial file:%s "
                       "-drive if=none,id=d0,file=%s,format=raw "
                       "-device ide-hd,drive=d0,secs=1,cyls=1,heads=1 "
                       "%s 2>%s", name, serial_path, boot, options,
                       stderr_path);
    qtest_qmp_set_event_callback(qemu, migrate_watch_for_events, state);
    migrate_set_capability(qemu, "events", true);
    migrate_set_capability(qemu, "postcopy-ram", true);
    return qemu;
}

/* @options: the destination's accelerator and more */
static void pair_start(Pair *p, const char *options)
{
    MigrationTestEnv *env = migration_get_env();
    const char *boot = bootfile_create(env->arch, env->tmpfs, false);
    g_autofree char *incoming = g_strdup_printf("%s -incoming defer", options);

    *p = (Pair) { };
    start_address = X86_TEST_MEM_START;
    end_address = X86_TEST_MEM_END;
    p->from = start_qemu("src", "-accel kvm", boot, &p->from_state);
    p->to = start_qemu("dest", incoming, boot, &p->to_state);
}

/* The guest runs on the destination, most of its memory is on the source. */
static void pair_switch_over(Pair *p)
{
    migrate_ensure_non_converge(p->from);
    migrate_set_parameter_int(p->from, "max-postcopy-bandwidth", SLOW);
    wait_for_serial("src_serial");
    migrate_incoming_qmp(p->to, "tcp:127.0.0.1:0", NULL, "{}");
    migrate_qmp(p->from, p->to, NULL, NULL, "{}");
    wait_for_migration_status(p->from, "active", NULL);
    migrate_postcopy_start(p->from, p->to, &p->from_state);
}

static void pair_complete(Pair *p)
{
    migrate_set_parameter_int(p->from, "max-postcopy-bandwidth", 0);
    wait_for_migration_complete(p->from);
    wait_for_migration_complete(p->to);
    wait_for_serial("dest_serial");
}

static void remove_logs(void)
{
    g_autofree char *src = tmp_path("src");
    g_autofree char *dest = tmp_path("dest");

    unlink(src);
    unlink(dest);
}

/* Check the guest's memory and end. */
static void pair_end(Pair *p)
{
    migrate_end(p->from, p->to, true);
    remove_logs();
}

/* End while memory is still missing. */
static void pair_drop(Pair *p)
{
    qtest_quit(p->to);
    /* Only removes files from here on. */
    qtest_quit(p->from);
    remove_logs();
}

/* ------------------------------------------------------------------------- */
/* What the destination tells */

/* The statistics, NULL if there are none; the caller's reference */
static QDict *query_service(QTestState *who)
{
    QDict *info = migrate_query(who);
    QDict *service = qdict_get_qdict(info, "postcopy-userfault");

    if (service) {
        qobject_ref(service);
    }
    qobject_unref(info);
    return service;
}

static uint64_t counter(const QDict *service, const char *name)
{
    uint64_t value;

    g_assert(qnum_get_try_uint(qobject_to(QNum, qdict_get(service, name)),
                               &value));
    return value;
}

static uint64_t faults(const QDict *service, const char *which)
{
    return counter(qdict_get_qdict(service, which), "count");
}

static void assert_status(const QDict *service, const char *status)
{
    g_assert(service);
    g_assert_cmpstr(qdict_get_str(service, "status"), ==, status);
}

/* Wait until @name has grown to @least; returns the statistics of then. */
static QDict *wait_for_counter(Pair *p, const char *name, uint64_t least)
{
    int64_t end = g_get_monotonic_time() + scaled_us(PROGRESS_SECONDS);
    QDict *service;

    while (true) {
        service = query_service(p->to);
        g_assert(service);
        if (counter(service, name) >= least) {
            return service;
        }
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        qobject_unref(service);
        g_usleep(20 * 1000);
    }
}

static void assert_latency(const QDict *service, const char *which)
{
    QDict *latency = qdict_get_qdict(service, which);
    const QListEntry *entry;
    uint64_t sum = 0, value;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(latency, "distribution"), entry) {
        g_assert(qnum_get_try_uint(qobject_to(QNum, qlist_entry_obj(entry)),
                                   &value));
        sum += value;
    }
    g_assert_cmpuint(sum, ==, counter(latency, "count"));
    g_assert_cmpuint(counter(latency, "max-ns"), <=,
                     counter(latency, "total-ns"));
    g_assert(sum == 0 || counter(latency, "max-ns") > 0);
}

static void assert_used(const QDict *service)
{
    g_assert_cmpuint(counter(service, "exits"), >, 0);
    g_assert_cmpuint(counter(service, "requests"), >, 0);
    g_assert_cmpuint(counter(service, "pages-vcpu"), >, 0);
    g_assert_cmpuint(faults(service, "latency"), >, 0);
    g_assert_cmpuint(faults(service, "latency"), <=,
                     counter(service, "exits"));
    g_assert(!qdict_haskey(service, "reason"));
}

static void assert_unused(const QDict *service)
{
    g_assert_cmpuint(counter(service, "exits"), ==, 0);
    g_assert_cmpuint(counter(service, "requests"), ==, 0);
    g_assert_cmpuint(counter(service, "pages-vcpu"), ==, 0);
    g_assert_cmpuint(counter(service, "pages-userfaultfd"), >, 0);
    g_assert_cmpuint(faults(service, "latency"), ==, 0);
    g_assert_cmpuint(faults(service, "userfaultfd-latency"), >, 0);
}

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
    g_assert_nonnull(member_type(schema, service, "latency"));
    g_assert_null(member_type(schema, service, "no-such-member"));
    qobject_unref(answer);
    qtest_quit(qemu);
}

/* ------------------------------------------------------------------------- */
/* Migrations */

static void assert_hmp_tells(QTestState *who, const QDict *service)
{
    g_autofree char *said = qtest_hmp(who, "info migrate");
    g_autofree char *status = NULL;
    g_autofree char *pages = NULL;

    status = g_strdup_printf("postcopy userfault: %s",
                             qdict_get_str(service, "status"));
    pages = g_strdup_printf("postcopy userfault pages: vcpu %" PRIu64,
                            counter(service, "pages-vcpu"));
    g_assert_nonnull(strstr(said, status));
    g_assert_nonnull(strstr(said, pages));
}

static void test_on_finishes(void)
{
    Pair p;
    QDict *service, *again;

    if (!have_userfault()) {
        return;
    }
    pair_start(&p, "-accel kvm,userfault=on");
    g_assert_null(query_service(p.to));
    pair_switch_over(&p);
    service = wait_for_counter(&p, "exits", 100);
    assert_status(service, "active");
    qobject_unref(service);
    pair_complete(&p);

    service = query_service(p.to);
    assert_status(service, "finished");
    assert_used(service);
    assert_latency(service, "latency");
    assert_latency(service, "userfaultfd-latency");
    assert_hmp_tells(p.to, service);
    g_assert_null(query_service(p.from));

    /* They are of one migration, and stay as they were at its end. */
    qtest_qmp_assert_success(p.to, "{'execute': 'stop'}");
    qtest_qmp_assert_success(p.to, "{'execute': 'cont'}");
    again = query_service(p.to);
    g_assert_true(qobject_is_equal(QOBJECT(service), QOBJECT(again)));
    qobject_unref(again);
    qobject_unref(service);
    pair_end(&p);
}

typedef struct Doors {
    const char *name;
    const char *options;
    bool used;
} Doors;

static const Doors doors[] = {
    { "default-uses-it", "-accel kvm", true },
    { "migration-off-wins-over-accel-on",
      "-accel kvm,userfault=on -global migration.postcopy-userfault=off",
      false },
    { "migration-on-wins-over-accel-off",
      "-accel kvm,userfault=off -global migration.postcopy-userfault=on",
      true },
    { "migration-auto-leaves-accel-off",
      "-accel kvm,userfault=off -global migration.postcopy-userfault=auto",
      false },
};

static void test_doors(const void *opaque)
{
    const Doors *d = opaque;
    QDict *service;
    Pair p;

    if (d->used && !have_userfault()) {
        return;
    }
    pair_start(&p, d->options);
    pair_switch_over(&p);
    service = wait_for_counter(&p, d->used ? "pages-vcpu" :
                               "pages-userfaultfd", 1);
    assert_status(service, d->used ? "active" : "off");
    if (d->used) {
        assert_used(service);
    } else {
        assert_unused(service);
        g_assert(!qdict_haskey(service, "reason"));
    }
    qobject_unref(service);
    pair_drop(&p);
}

static int count_lines(const char *path, const char *with)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    int i, n = 0;

    g_assert(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (i = 0; lines[i]; i++) {
        n += !!strstr(lines[i], with);
    }
    return n;
}

static void test_fallback_migrates(void)
{
    g_autofree char *said = tmp_path("dest");
    QDict *service;
    Pair p;

    if (!hide_userfault(BREAK_ALL)) {
        return;
    }
    pair_start(&p, "-accel kvm");
    pair_switch_over(&p);
    service = wait_for_counter(&p, "pages-userfaultfd", 1);
    assert_status(service, "fallback");
    qobject_unref(service);
    pair_complete(&p);

    service = query_service(p.to);
    assert_status(service, "fallback");
    assert_unused(service);
    g_assert_nonnull(strstr(qdict_get_str(service, "reason"),
                            "the host kernel does not know"));
    assert_hmp_tells(p.to, service);
    g_assert_cmpint(count_lines(said, "KVM userfault is not used"), ==, 1);
    qobject_unref(service);
    pair_end(&p);
    unhide_userfault();
}

/* ------------------------------------------------------------------------- */
/* vCPUs that wait for a source that does not answer */

static bool vcpu_waits(const QDict *service)
{
    return counter(service, "waits") >
           counter(service, "waits-broken") + faults(service, "latency");
}

/* Stop the source process, and wait until a vCPU has to do without it. */
static QDict *hold_source(Pair *p)
{
    int64_t end = g_get_monotonic_time() + scaled_us(PROGRESS_SECONDS);
    bool before = false, now;
    QDict *service;

    qobject_unref(wait_for_counter(p, "exits", 1));
    g_assert(!kill(qtest_pid(p->from), SIGSTOP));
    while (true) {
        service = query_service(p->to);
        /* Twice, since what the source sent before is still on its way. */
        now = vcpu_waits(service);
        if (now && before) {
            return service;
        }
        before = now;
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        qobject_unref(service);
        g_usleep(500 * 1000);
    }
}

static void release_source(Pair *p)
{
    g_assert(!kill(qtest_pid(p->from), SIGCONT));
}

/* @command answers promptly, and leaves the guest running or not. */
static void assert_prompt(Pair *p, const char *command, bool running)
{
    int64_t start = g_get_monotonic_time();
    QDict *status;

    qtest_qmp_assert_success(p->to, "{'execute': %s}", command);
    status = qtest_qmp_assert_success_ref(p->to, "{'execute': 'query-status'}");
    g_assert_cmpint(qdict_get_bool(status, "running"), ==, running);
    g_assert_cmpint(g_get_monotonic_time() - start, <,
                    scaled_us(ANSWER_SECONDS));
    qobject_unref(status);
}

static void test_monitor_while_waiting(void)
{
    QDict *before, *after;
    Pair p;
    int i;

    if (!have_userfault()) {
        return;
    }
    pair_start(&p, "-accel kvm,userfault=on");
    pair_switch_over(&p);
    before = hold_source(&p);
    for (i = 0; i < 3; i++) {
        assert_prompt(&p, "stop", false);
        assert_prompt(&p, "cont", true);
        /* The vCPU comes again, and waits again. */
        qobject_unref(wait_for_counter(&p, "waits",
                                       counter(before, "waits") + i + 1));
    }
    after = query_service(p.to);
    g_assert_cmpuint(counter(after, "waits-broken"), >=,
                     counter(before, "waits-broken") + 3);
    /* One page, asked for once, however often the wait for it is broken */
    g_assert_cmpuint(counter(after, "requests"), ==,
                     counter(before, "requests"));
    qobject_unref(before);
    qobject_unref(after);
    release_source(&p);
    pair_complete(&p);
    pair_end(&p);
}

static void test_quit_while_waiting(void)
{
    int64_t end;
    Pair p;

    if (!have_userfault()) {
        return;
    }
    pair_start(&p, "-accel kvm,userfault=on");
    pair_switch_over(&p);
    qobject_unref(hold_source(&p));
    qtest_qmp_assert_success(p.to, "{'execute': 'quit'}");
    end = g_get_monotonic_time() + scaled_us(ANSWER_SECONDS);
    while (qtest_probe_child(p.to)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(50 * 1000);
    }
    release_source(&p);
    pair_drop(&p);
}

int main(int argc, char **argv)
{
    MigrationTestEnv *env;
    int i, ret;

    g_test_init(&argc, &argv, NULL);
    env = migration_get_env();
    qtest_add_func("userfault/policy/on-without-kvm-refused",
                   test_on_without_kvm_refused);
    qtest_add_func("userfault/policy/off-without-kvm-accepted",
                   test_off_without_kvm_accepted);
    qtest_add_func("userfault/schema/has-statistics", test_schema);
    if (env->has_kvm) {
        qtest_add_func("userfault/policy/unknown-values-refused",
                       test_unknown_values_refused);
        qtest_add_func("userfault/policy/on-without-support-refused",
                       test_on_without_support_refused);
        qtest_add_func("userfault/policy/on-with-broken-support-refused",
                       test_on_with_broken_support_refused);
    }
    if (env->has_kvm && env->has_uffd) {
        for (i = 0; i < ARRAY_SIZE(doors); i++) {
            g_autofree char *path = g_strdup_printf("userfault/doors/%s",
                                                    doors[i].name);

            qtest_add_data_func(path, &doors[i], test_doors);
        }
        qtest_add_func("userfault/on/finishes-with-statistics",
                       test_on_finishes);
        qtest_add_func("userfault/fallback/migrates-with-one-warning",
                       test_fallback_migrates);
        qtest_add_func("userfault/wait/monitor-answers",
                       test_monitor_while_waiting);
        qtest_add_func("userfault/wait/quit-ends", test_quit_while_waiting);
    }
    ret = g_test_run();
    migration_env_clean(env);
    return ret;
}
