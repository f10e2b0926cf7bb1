/*
 * Which memslot maps which page, and the bitmaps KVM reads
 *
 * Plain data structures without KVM and without locks of their own.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_USERFAULT_MAP_H
#define ACCEL_KVM_USERFAULT_MAP_H

/*
 * One memslot.  The bitmap is read by KVM whenever a vCPU faults, one long at
 * a time: bit n stands for the page at gpa + n * page size, and a set bit
 * makes the vCPU exit.
 */
typedef struct UserfaultView {
    /* Set once */
    uint32_t slot;          /* KVM's number: address space << 16 | index */
    uint64_t gpa;
    uint64_t size;          /* bytes */
    void *block;            /* the RAMBlock */
    uint64_t block_offset;  /* of the slot's first byte in the block */
    void *cookie;           /* the block's, from KVMUserfaultOps */
    unsigned page_shift;
    unsigned long *bitmap;
    size_t bitmap_bytes;
    unsigned *users;        /* views that have this bitmap; atomic */
} UserfaultView;

/* All views, ordered by address space and guest address; never changed. */
typedef struct UserfaultMap {
    unsigned nr;
    UserfaultView *view[];
} UserfaultMap;

/**
 * userfault_view_new: make the view of a slot, all pages absent
 * @slot, @gpa, @size, @block, @block_offset, @cookie: see UserfaultView
 * @page_size: of the pages KVM tracks, in bytes
 *
 * Returns NULL if there is no memory.
 */
UserfaultView *userfault_view_new(uint32_t slot, uint64_t gpa, uint64_t size,
                                  void *block, uint64_t block_offset,
                                  void *cookie, uint64_t page_size);

/**
 * userfault_view_share: make the view of a slot that maps what another one maps
 * @like: a view that has not been retired
 * @slot, @gpa: see UserfaultView
 *
 * Both have one bitmap, as the bits of the same pages are the same at all times:
 * on x86 nearly all of a machine's memory has a second slot, for SMM.
 */
UserfaultView *userfault_view_share(const UserfaultView *like, uint32_t slot,
                                    uint64_t gpa);

/**
 * userfault_view_free: free @view; KVM and all threads must have let go of it
 *
 * Its bitmap goes with the last view that has it.
 */
void userfault_view_free(UserfaultView *view);

/**
 * userfault_view_clear: let vCPUs access a part of a block
 * @view: any view
 * @block: the block
 * @offset: byte offset in the block
 * @length: in bytes
 *
 * Clears, with release semantics, the bits of the pages that @view maps; does
 * nothing if it maps none of them.  Any thread.
 */
void userfault_view_clear(UserfaultView *view, void *block, uint64_t offset,
                          uint64_t length);

/**
 * userfault_map_clear: userfault_view_clear() for all views of a map
 * @map: the map; may be NULL
 * @block, @offset, @length: see there
 */
void userfault_map_clear(const UserfaultMap *map, void *block, uint64_t offset,
                         uint64_t length);

/**
 * userfault_view_load: let vCPUs access the pages that are present already
 * @view: a view
 * @present: a bit for each page of the block
 * @length: of the block in bytes; pages beyond count as present
 *
 * A full barrier before the first look at @present: a page that becomes
 * present after the look is cleared by whoever places it, if @view was
 * published before this call.
 */
void userfault_view_load(UserfaultView *view, const unsigned long *present,
                         uint64_t length);

/**
 * userfault_view_test: whether a page's bit is set
 * @view: a view
 * @block_offset: byte offset in the block of a page that @view maps
 */
bool userfault_view_test(const UserfaultView *view, uint64_t block_offset);

/**
 * userfault_map_add: a map with one more view
 * @map: the old map, unchanged; may be NULL for an empty one
 * @view: not in @map
 */
UserfaultMap *userfault_map_add(const UserfaultMap *map, UserfaultView *view);

/**
 * userfault_map_remove: a map with one view less
 * @map: the old map, unchanged
 * @view: in @map
 */
UserfaultMap *userfault_map_remove(const UserfaultMap *map,
                                   const UserfaultView *view);

/**
 * userfault_map_find: the view that maps a guest address
 * @map: the map; may be NULL
 * @as_id: KVM's address space
 * @gpa: the guest address
 */
UserfaultView *userfault_map_find(const UserfaultMap *map, unsigned as_id,
                                  uint64_t gpa);

/**
 * userfault_map_find_like: a view that maps just this part of a block
 * @map: the map; may be NULL
 * @block: the block
 * @block_offset, @size: the part, in bytes
 */
UserfaultView *userfault_map_find_like(const UserfaultMap *map,
                                       const void *block,
                                       uint64_t block_offset, uint64_t size);

/**
 * userfault_map_find_slot: the view of a slot
 * @map: the map; may be NULL
 * @slot: KVM's number of the slot
 */
UserfaultView *userfault_map_find_slot(const UserfaultMap *map, uint32_t slot);

#endif
