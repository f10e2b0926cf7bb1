/*
 * QEMU's ram.c, with the source's state made by hand
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "migration/ram.c"
#include "fuzz.h"
#include "peek.h"

void peek_ram_begin(void)
{
    ram_state_init(&ram_state, &error_abort);
    ram_list_init_bitmaps();
}

void peek_ram_end(void)
{
    ram_state_cleanup(&ram_state);
}

const RAMBlock *peek_ram_last_requested(void)
{
    return ram_state->last_req_rb[postcopy_urgent_channel()];
}

/* Whether the background stream is sending the host page of @page */
static bool is_sending(const RAMBlock *rb, uint64_t page)
{
    const PageSearchStatus *pss = &ram_state->pss[RAM_CHANNEL_PRECOPY];
    uint64_t host_page = QEMU_ALIGN_DOWN(page, rb->page_size /
                                               TARGET_PAGE_SIZE);

    return pss->host_page_sending && pss->block == rb &&
           pss->host_page_start == host_page;
}

void peek_ram_answered(uint64_t start, uint64_t length)
{
    const RAMBlock *rb = ram_state->last_req_rb[postcopy_urgent_channel()];
    uint64_t page = start >> TARGET_PAGE_BITS;
    /* One that begins within a host page ends with one. */
    uint64_t end = QEMU_ALIGN_DOWN(start + length, rb->page_size) >>
                   TARGET_PAGE_BITS;

    if (qemu_file_get_error(postcopy_urgent_pages(migrate_get_current()))) {
        return;
    }
    for (; page < end; page++) {
        fuzz_check(!test_bit(page, rb->bmap) || is_sending(rb, page),
                   "page %" PRIu64 " of %s was asked for and not sent", page,
                   rb->idstr);
    }
}

bool peek_ram_send(QEMUFile *f)
{
    PageSearchStatus *pss = &ram_state->pss[RAM_CHANNEL_PRECOPY];
    int pages;

    WITH_QEMU_LOCK_GUARD(&ram_state->bitmap_mutex) {
        WITH_RCU_READ_LOCK_GUARD() {
            pss->pss_channel = f;
            /* It is through with what it was sending. */
            pss_host_page_finish(pss);
            pages = ram_find_and_save_block(ram_state);
            fuzz_check(pages || !ram_state->migration_dirty_pages,
                       "%" PRIu64 " dirty pages are not found",
                       ram_state->migration_dirty_pages);
        }
    }
    qemu_fflush(f);
    return pages > 0;
}

static void check_queue(void)
{
    const struct RAMSrcPageRequest *req;

    QSIMPLEQ_FOREACH(req, &ram_state->src_page_requests, next_req) {
        fuzz_check(req->offset < req->rb->used_length &&
                   req->len <= req->rb->used_length - req->offset,
                   "a request of 0x%" PRIx64 " bytes at 0x%" PRIx64 " of %s is "
                   "queued", req->len, req->offset, req->rb->idstr);
    }
}

void peek_ram_check(bool counted)
{
    uint64_t dirty = 0;
    RAMBlock *rb;

    check_queue();
    RAMBLOCK_FOREACH_NOT_IGNORED(rb) {
        dirty += bitmap_count_one(rb->bmap, rb->used_length >>
                                            TARGET_PAGE_BITS);
    }
    fuzz_check(!counted || dirty == ram_state->migration_dirty_pages,
               "%" PRIu64 " pages are dirty, %" PRIu64 " are counted", dirty,
               ram_state->migration_dirty_pages);
}

void peek_ram_recount(void)
{
    ram_state_resume_prepare(ram_state, migrate_get_current()->to_dst_file);
}

void peek_urgent_sending(RAMBlock *rb, uint64_t page)
{
    PageSearchStatus *pss = &ram_state->pss[RAM_CHANNEL_PRECOPY];

    pss_init(pss, rb, page);
    pss_host_page_prepare(pss);
}

void peek_received_maps(void)
{
    ramblock_recv_map_init();
}
