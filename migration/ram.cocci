// Pages as they come in, on the destination; as they go out, on the source.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule include places 1 -- declares what the other rule calls
@@ @@
 #include "postcopy-ram.h"
+#include "postcopy-answer.h"
+#include "postcopy-order.h"
+#include "postcopy-urgent.h"
+#include "postcopy-userfault.h"

//# rule received places 1 -- a source may wait for the acknowledgement before it sends the next page
@@
symbol f, ret, place_needed;
@@
 ram_load_postcopy(...)
 {
 <...
 if (!ret && place_needed) {
+    postcopy_userfault_received(f);
     ...
 }
 ...>
 }

//# rule arrived places 2 -- the vCPU that waits for a page places it, where there is one
@@
symbol f, mis, tmp_page, place_source, block, ret;
@@
 ram_load_postcopy(...)
 {
 <...
(
-ret = postcopy_place_page_zero(mis, tmp_page->host_addr, block);
+ret = postcopy_userfault_arrived(mis, f, tmp_page->host_addr, NULL, block);
|
-ret = postcopy_place_page(mis, tmp_page->host_addr, place_source, block);
+ret = postcopy_userfault_arrived(mis, f, tmp_page->host_addr, place_source,
+                                 block);
)
 ...>
 }

//# rule page places 1 -- requests that have come together are answered together; nobody is to wait for a send with the bitmap's mutex
@@
symbol pss;
@@
 ram_save_host_page_urgent(...)
 {
 <...
-qemu_fflush(pss->pss_channel);
 ...>
 }

//# rule end places 1 -- sent when the last of them is answered, or much has come together
@@
symbol pss, rs, ret;
@@
 ram_save_queue_pages(...)
 {
 <...
 qemu_mutex_unlock(&rs->bitmap_mutex);
+postcopy_answer_end(pss->pss_channel,
+                    postcopy_urgent_requests(migrate_get_current()),
+                    postcopy_urgent_channel() == RAM_CHANNEL_POSTCOPY);
 return ret;
 ...>
 }

//# rule last places 1 -- which another thread may still be about
@@
symbol RAM_SAVE_FLAG_EOS, s;
@@
 postcopy_preempt_shutdown_file(...)
 {
-qemu_put_be64(s->postcopy_qemufile_src, RAM_SAVE_FLAG_EOS);
-qemu_fflush(s->postcopy_qemufile_src);
+postcopy_answer_last(s->postcopy_qemufile_src, RAM_SAVE_FLAG_EOS);
 }

//# rule order places 1 -- what the background stream knows of requests; begins as zeroes, like all of it
@@ @@
 struct RAMState {
 ...
 QemuMutex bitmap_mutex;
+PostcopyOrder order;
 ...
 };

//# rule reset places 1 -- the scan begins anew, with other blocks or bitmaps
@@
symbol rs;
@@
 ram_state_reset(...)
 {
 ...
 rs->last_seen_block = NULL;
+postcopy_order_reset(&rs->order);
 ...
 }

//# rule asked places 1 -- beside the background stream, which would not hear of it
@@
symbol pss, rs, ramblock, page_start, len;
@@
 ram_save_queue_pages(...)
 {
 <...
 pss_init(pss, ramblock, page_start);
+postcopy_order_asked(&rs->order, ramblock, ramblock->bmap,
+                     ramblock->used_length >> TARGET_PAGE_BITS, page_start,
+                     len >> TARGET_PAGE_BITS);
 ...>
 }

//# rule next places 1 -- before a round begins, so that it is a whole one
@@
symbol pss, rs;
@@
 ram_find_and_save_block(...)
 {
 <...
+postcopy_order_next(&rs->order, &rs->last_seen_block, &rs->last_page);
 pss_init(pss, rs->last_seen_block, rs->last_page);
 ...>
 }

//# rule range places 1 -- after a page that is left to the background stream, or that is followed by pages that have been sent, the next one of the request
@@
symbol pss, page_start, page_size, len;
@@
 ram_save_queue_pages(...)
 {
 <...
+page_start = ROUND_UP(page_start + 1, page_size >> TARGET_PAGE_BITS);
+pss->page = page_start;
 len -= page_size;
 ...>
 }

//# rule overlap places 1 -- pages of different blocks are never the same
@@
symbol pss1, pss2;
@@
 pss_overlap(...)
 {
+if (pss1->block != pss2->block) {
+    return false;
+}
 ...
 }

//# rule asked_field places 1 -- each channel has a block that it asked for last
@@ @@
 struct RAMState {
 ...
-RAMBlock *last_req_rb;
+RAMBlock *last_req_rb[RAM_CHANNEL_MAX];
 ...
 };

//# rule asked_block places 2 -- requests may come by several channels
@@
symbol rs;
@@
 ram_save_queue_pages(...)
 {
 <...
-rs->last_req_rb
+rs->last_req_rb[postcopy_urgent_channel()]
 ...>
 }

//# rule sends places 1 -- and so may their pages; what a page's header leaves out goes by channel
@@
typedef PageSearchStatus;
symbol pss, ram_state;
@@
 ram_save_queue_pages(...)
 {
 <...
-PageSearchStatus *pss = &ram_state->pss[RAM_CHANNEL_POSTCOPY];
+PageSearchStatus *pss = &ram_state->pss[postcopy_urgent_channel()];
 ...>
 }

//# rule channel places 1 -- by the one that the request came by
@@
symbol pss;
@@
 ram_save_queue_pages(...)
 {
 <...
-pss->pss_channel = migrate_get_current()->postcopy_qemufile_src;
+pss->pss_channel = postcopy_urgent_pages(migrate_get_current());
 ...>
 }
