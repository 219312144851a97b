/* alloc.c - aligned, zeroed memory; huge pages for what is large.
 *
 * Small blocks come from the C library. From 1 MiB on a block is a mapping of its own:
 *
 *      |<-- slack -->|<------------- bytes, rounded up to 4 KiB ------------->|<-- slack -->|      slack is unmapped again
 *                    ^ aligned to 2 MiB, so that the kernel can back it with huge pages from its first byte
 *
 * Untouched pages of such a mapping cost nothing (MAP_NORESERVE): a KV cache may reserve its whole context and pays for what it uses.
 */
#include "core.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64, PAGE = 4096, HUGE_PAGE = 2 << 20, MAP_FROM = 1 << 20 };

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static void *map_aligned(int64_t bytes) {
    size_t span = (size_t)bytes + HUGE_PAGE;
    uint8_t *p = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    size_t before = (size_t)(-(uintptr_t)p & (HUGE_PAGE - 1)), after = HUGE_PAGE - before;
    if (before) munmap(p, before);
    if (after) munmap(p + before + bytes, after);
#ifdef MADV_HUGEPAGE
    madvise(p + before, (size_t)bytes, MADV_HUGEPAGE); /* a wish: a kernel without huge pages serves small ones */
#endif
    return p + before;
}

int zl_alloc_is_mapping(int64_t bytes) { return bytes >= MAP_FROM; }

static int allocate(int64_t bytes, int zeroed, void **out) {
    if (!out) return zl_fail(ZL_E_ARG, "zl_alloc: out is a null pointer");
    *out = NULL;
    if (bytes < 0) return zl_fail(ZL_E_ARG, "zl_alloc: %lld bytes", (long long)bytes);
    if (bytes > (int64_t)1 << 47) return zl_fail(ZL_E_MEMORY, "zl_alloc (more than an address space) needs %lld bytes", (long long)bytes);
    if (zl_alloc_is_mapping(bytes)) {
        *out = map_aligned(round_up(bytes, PAGE));
    } else {
        size_t rounded = (size_t)round_up(bytes ? bytes : 1, ALIGNMENT);
        if ((*out = aligned_alloc(ALIGNMENT, rounded)) && zeroed) memset(*out, 0, rounded);
    }
    return *out ? ZL_OK : zl_fail(ZL_E_MEMORY, "zl_alloc needs %lld bytes", (long long)bytes);
}

int zl_alloc(int64_t bytes, void **out) { return allocate(bytes, 1, out); }

/* Zeroing would touch each page from the calling thread alone, before the threads that fill it. */
int zl_alloc_unwritten(int64_t bytes, void **out) { return allocate(bytes, 0, out); }

void zl_release(void *p, int64_t bytes) {
    if (!p) return;
    if (zl_alloc_is_mapping(bytes)) munmap(p, (size_t)round_up(bytes, PAGE)); /* the size tells which of the two it was */
    else free(p);
}
