/*
 * Does postcopy with KVM userfault do what its users are promised?
 *
 * Which policy wins, what a host without the feature sees, the statistics, and
 * a destination that stays responsive while its vCPUs wait for pages.  What
 * needs no migration is in userfault-policy.c.
 *
 * The guest and the migration steps are those of QEMU's migration tests.  What
 * needs a kernel without KVM userfault tells the kernel of the test host to
 * break a promise; what needs one with it is skipped elsewhere.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "migration/framework.h"
#include "migration/migration-qmp.h"
#include "migration/migration-util.h"
#include "qemu/timer.h"
#include "qobject/qdict.h"
#include "userfault-pair.h"
#include "userfault-util.h"

#define ANSWER_SECONDS 10           /* "promptly", on an idle machine */

/* query-migrate has latencies with the capability postcopy-blocktime */
#define HAVE_POSTCOPY_LATENCY \
    (QEMU_VERSION_MAJOR * 100 + QEMU_VERSION_MINOR >= 1001)

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
    g_assert_cmpstr(told->str, ==, "active ");
    qobject_unref(service);
    pair_complete(&p);

    service = query_service(p.to);
    assert_status(service, "finished");
    g_assert_cmpstr(told->str, ==, "active finished ");
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
    g_assert_cmpstr(told->str, ==, "fallback+reason ");
    assert_unused(service);
    g_assert_nonnull(strstr(qdict_get_str(service, "reason"),
                            "the host kernel does not know"));
    assert_hmp_tells(p.to, service);
    g_assert_cmpint(count_lines(said, "KVM userfault is not used"), ==, 1);
    qobject_unref(service);
    pair_end(&p);
    unhide_userfault();
}

#if HAVE_POSTCOPY_LATENCY
/*
 * @waits of vCPUs in the service are in @info as faults of theirs.  How many
 * faults of the vCPU it counted is not told, but the time they took, in
 * ms and rounded down, and the mean of them.
 */
static void assert_blocktime(QDict *info, uint64_t waits)
{
    uint64_t all, mean, time;

    all = sum_of(qdict_get_qlist(info, "postcopy-latency-dist"));
    mean = sum_of(qdict_get_qlist(info, "postcopy-vcpu-latency"));
    time = (sum_of(qdict_get_qlist(info, "postcopy-vcpu-blocktime")) + 1) *
           SCALE_MS;
    g_test_message("%" PRIu64 " waits in the service; of all faults %" PRIu64
                   ", of the vCPU up to %" PRIu64 " of %" PRIu64 " ns",
                   waits, all, mean ? time / mean : 0, mean);
    /* The page came just before the wait for some. */
    waits -= waits / 10;
    g_assert_cmpuint(all, >=, waits);
    g_assert_cmpuint(mean, >, 0);
    g_assert_cmpuint(time / mean, >=, waits);
    g_assert_cmpuint(counter(info, "postcopy-latency"), >, 0);
}

static void test_blocktime(void)
{
    QDict *info;
    Pair p;

    if (!have_userfault()) {
        return;
    }
    pair_start(&p, "-accel kvm,userfault=on -smp 1");
    migrate_set_capability(p.to, "postcopy-blocktime", true);
    pair_switch_over(&p);
    qobject_unref(wait_for_counter(&p, "exits", 100));
    pair_complete(&p);
    info = migrate_query(p.to);
    assert_blocktime(info, faults(qdict_get_qdict(info, "postcopy-userfault"),
                                  "latency"));
    qobject_unref(info);
    pair_end(&p);
}
#endif

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
    userfault_policy_tests_add(env->has_kvm);
    if (env->has_kvm && env->has_uffd) {
        for (i = 0; i < ARRAY_SIZE(doors); i++) {
            g_autofree char *path = g_strdup_printf("userfault/doors/%s",
                                                    doors[i].name);

            qtest_add_data_func(path, &doors[i], test_doors);
        }
        qtest_add_func("userfault/on/finishes-with-statistics",
                       test_on_finishes);
#if HAVE_POSTCOPY_LATENCY
        qtest_add_func("userfault/on/latencies-of-vcpus", test_blocktime);
#endif
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
