/*
 * QEMU's migration.c, with its states made by hand
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "migration/migration.c"
#include "peek.h"

static void init_semaphores(QemuSemaphore **sems, unsigned n)
{
    unsigned i;

    for (i = 0; i < n; i++) {
        qemu_sem_init(sems[i], 0);
    }
}

static void init_outgoing(MigrationState *ms)
{
    QemuSemaphore *sems[] = {
        &ms->postcopy_pause_sem, &ms->postcopy_qemufile_src_sem,
        &ms->rp_state.rp_pong_acks, &ms->rp_state.rp_sem,
        &ms->rate_limit_sem, &ms->pause_sem,
    };

    init_semaphores(sems, ARRAY_SIZE(sems));
    qemu_mutex_init(&ms->qemu_file_lock);
    qemu_mutex_init(&ms->error_mutex);
    migrate_params_init(&ms->parameters);
    ms->parameters.zero_page_detection = ZERO_PAGE_DETECTION_LEGACY;
    ms->clear_bitmap_shift = CLEAR_BITMAP_SHIFT_DEFAULT;
    ms->capabilities[MIGRATION_CAPABILITY_POSTCOPY_RAM] = true;
}

static void init_incoming(MigrationIncomingState *mis)
{
    QemuSemaphore *sems[] = {
        &mis->postcopy_qemufile_dst_done, &mis->postcopy_pause_sem_fast_load,
        &mis->postcopy_pause_sem_fault, &mis->postcopy_pause_sem_dst,
    };

    init_semaphores(sems, ARRAY_SIZE(sems));
    mis->postcopy_remote_fds = g_array_new(FALSE, TRUE,
                                           sizeof(struct PostCopyFD));
    qemu_mutex_init(&mis->rp_mutex);
    qemu_mutex_init(&mis->postcopy_prio_thread_mutex);
    qemu_mutex_init(&mis->page_request_mutex);
    qemu_cond_init(&mis->page_request_cond);
    mis->page_requested = g_tree_new(page_request_addr_cmp);
}

void peek_migration_init(void)
{
    current_migration = g_new0(MigrationState, 1);
    init_outgoing(current_migration);
    current_incoming = g_new0(MigrationIncomingState, 1);
    init_incoming(current_incoming);
}

void peek_return_path(MigrationState *ms)
{
    /* It registers with RCU as a thread of its own. */
    rcu_unregister_thread();
    source_return_path_thread(ms);
    rcu_register_thread();
}

void peek_try_recover(void)
{
    postcopy_try_recover();
}

static gboolean collect(gpointer key, gpointer value, gpointer keys)
{
    g_ptr_array_add(keys, key);
    return FALSE;
}

void peek_forget_requests(MigrationIncomingState *mis)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    unsigned i;

    g_tree_foreach(mis->page_requested, collect, keys);
    for (i = 0; i < keys->len; i++) {
        g_tree_remove(mis->page_requested, keys->pdata[i]);
    }
    mis->page_requested_count = 0;
}
