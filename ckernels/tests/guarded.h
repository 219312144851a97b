/* guarded.h - memory whose last byte is the last before a page that faults: reading or writing one byte too many ends the selftest. */
#ifndef ZL_GUARDED_H
#define ZL_GUARDED_H
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct {
    void *p, *base;
    size_t span;
} guarded;
static guarded guard(int64_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = ((size_t)bytes + page - 1) / page * page + page;
    guarded g = {NULL, mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), room};
    if (g.base == MAP_FAILED) abort();
    mprotect((uint8_t *)g.base + room - page, page, PROT_NONE);
    g.p = (uint8_t *)g.base + room - page - bytes;
    return g;
}
static void release(guarded *g) { munmap(g->base, g->span); }
#endif
