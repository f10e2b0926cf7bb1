/*
 * Two QEMUs and a guest that moves, for the tests of KVM userfault
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
#include "userfault-pair.h"
#include "userfault-util.h"

#define SLOW 4096                   /* bytes per second of the background */

/* ------------------------------------------------------------------------- */
/* Two QEMUs */

char *tmp_path(const char *name)
{
    return g_strdup_printf("%s/%s", migration_get_env()->tmpfs, name);
}

GString *told;

static bool watch_events(QTestState *who, const char *name, QDict *event,
                         void *opaque)
{
    if (g_str_equal(name, "POSTCOPY_USERFAULT")) {
        QDict *data = qdict_get_qdict(event, "data");

        g_string_append_printf(told, "%s%s ", qdict_get_str(data, "status"),
                               qdict_haskey(data, "reason") ? "+reason" : "");
        return true;
    }
    return migrate_watch_for_events(who, name, event, opaque);
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
    qtest_qmp_set_event_callback(qemu, watch_events, state);
    migrate_set_capability(qemu, "events", true);
    migrate_set_capability(qemu, "postcopy-ram", true);
    return qemu;
}

void pair_start(Pair *p, const char *options)
{
    MigrationTestEnv *env = migration_get_env();
    const char *boot = bootfile_create(env->arch, env->tmpfs, false);
    g_autofree char *incoming = g_strdup_printf("%s -incoming defer", options);

    *p = (Pair) { };
    if (!told) {
        told = g_string_new(NULL);
    }
    g_string_truncate(told, 0);
    start_address = X86_TEST_MEM_START;
    end_address = X86_TEST_MEM_END;
    p->from = start_qemu("src", "-accel kvm", boot, &p->from_state);
    p->to = start_qemu("dest", incoming, boot, &p->to_state);
}

/*
 * Wait until the guest runs on the destination.  The library's own wait drops
 * all events but the one it waits for.
 */
static void wait_for_resume_with_events(Pair *p)
{
    int64_t end = g_get_monotonic_time() + scaled_us(PROGRESS_SECONDS);

    while (!p->to_state.resume_seen) {
        qobject_unref(migrate_query(p->to));
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(20 * 1000);
    }
}

void pair_switch_over(Pair *p)
{
    migrate_ensure_non_converge(p->from);
    migrate_set_parameter_int(p->from, "max-postcopy-bandwidth", SLOW);
    wait_for_serial("src_serial");
    migrate_incoming_qmp(p->to, "tcp:127.0.0.1:0", NULL, "{}");
    migrate_qmp(p->from, p->to, NULL, NULL, "{}");
    wait_for_migration_status(p->from, "active", NULL);
    qtest_qmp_assert_success(p->from, "{'execute': 'migrate-start-postcopy'}");
    wait_for_resume_with_events(p);
}

void pair_complete(Pair *p)
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

void pair_end(Pair *p)
{
    migrate_end(p->from, p->to, true);
    remove_logs();
}

void pair_drop(Pair *p)
{
    qtest_quit(p->to);
    /* Only removes files from here on. */
    qtest_quit(p->from);
    remove_logs();
}

/* ------------------------------------------------------------------------- */
/* What the destination tells */

QDict *query_service(QTestState *who)
{
    QDict *info = migrate_query(who);
    QDict *service = qdict_get_qdict(info, "postcopy-userfault");

    if (service) {
        qobject_ref(service);
    }
    qobject_unref(info);
    return service;
}

uint64_t counter(const QDict *service, const char *name)
{
    uint64_t value;

    g_assert(qnum_get_try_uint(qobject_to(QNum, qdict_get(service, name)),
                               &value));
    return value;
}

uint64_t faults(const QDict *service, const char *which)
{
    return counter(qdict_get_qdict(service, which), "count");
}

void assert_status(const QDict *service, const char *status)
{
    g_assert(service);
    g_assert_cmpstr(qdict_get_str(service, "status"), ==, status);
}

QDict *wait_for_counter(Pair *p, const char *name, uint64_t least)
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

uint64_t sum_of(QList *list)
{
    const QListEntry *entry;
    uint64_t sum = 0, value;

    QLIST_FOREACH_ENTRY(list, entry) {
        g_assert(qnum_get_try_uint(qobject_to(QNum, qlist_entry_obj(entry)),
                                   &value));
        sum += value;
    }
    return sum;
}

void assert_latency(const QDict *service, const char *which)
{
    QDict *latency = qdict_get_qdict(service, which);
    uint64_t sum = sum_of(qdict_get_qlist(latency, "distribution"));

    g_assert_cmpuint(sum, ==, counter(latency, "count"));
    g_assert_cmpuint(counter(latency, "max-ns"), <=,
                     counter(latency, "total-ns"));
    g_assert(sum == 0 || counter(latency, "max-ns") > 0);
}

void assert_used(const QDict *service)
{
    g_assert_cmpuint(counter(service, "exits"), >, 0);
    g_assert_cmpuint(counter(service, "requests"), >, 0);
    g_assert_cmpuint(counter(service, "pages-vcpu"), >, 0);
    g_assert_cmpuint(faults(service, "latency"), >, 0);
    g_assert_cmpuint(faults(service, "latency"), <=,
                     counter(service, "exits"));
    g_assert(!qdict_haskey(service, "reason"));
}

void assert_unused(const QDict *service)
{
    g_assert_cmpuint(counter(service, "exits"), ==, 0);
    g_assert_cmpuint(counter(service, "requests"), ==, 0);
    g_assert_cmpuint(counter(service, "readahead-pages"), ==, 0);
    g_assert_cmpuint(counter(service, "pages-vcpu"), ==, 0);
    g_assert_cmpuint(counter(service, "pages-userfaultfd"), >, 0);
    g_assert_cmpuint(faults(service, "latency"), ==, 0);
    g_assert_cmpuint(faults(service, "userfaultfd-latency"), >, 0);
}
