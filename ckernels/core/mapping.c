/* mapping.c - memory for the weights of a model, which come and go together: cut one behind the other from one mapping.
 *
 *      |<-------------------------- a mapping of SPAN bytes, aligned to 2 MiB -------------------------->|
 *      | weight 0     | weight 1  | weight 2              | ..           | untouched: no memory          |      each begins 4 KiB
 *
 * A small model has hundreds of matrices that are smaller than a huge page. In blocks of their own they lie on small pages: a fault for
 * every 4 KiB when they are packed, an address to translate for every 4 KiB when they are read. Behind each other they fill huge pages.
 *
 * Where address space is rationed (ulimit -v, or a system that counts what is reserved) and SPAN is refused, a weight has a mapping of its own.
 *
 * The mapping is given back when the last of its weights and the context have let go of it, all at once: so this is not for weights that
 * come and go one by one.
 */
#include "core.h"
#include <stdatomic.h>
#include <stdlib.h>

enum { PAGE = 4096 };
static const int64_t SPAN = (int64_t)1 << 30;

struct zl_mapping {
    _Atomic int64_t users; /* the context, while it cuts from it, and each weight */
    int64_t bytes, used;
    uint8_t *memory;
};

static zl_mapping *map(int64_t need) {
    zl_mapping *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    /* Where address space is rationed, what is asked for now is enough. */
    for (m->bytes = need > SPAN ? need : SPAN; zl_alloc(m->bytes, (void **)&m->memory); m->bytes = need)
        if (m->bytes == need) {
            free(m);
            return NULL;
        }
    m->users = 1;
    return m;
}

void zl_mapping_drop(zl_mapping *m) {
    if (!m || atomic_fetch_sub(&m->users, 1) > 1) return;
    zl_release(m->memory, m->bytes);
    free(m);
}

int zl_mapping_take(zl_mapping **current, int64_t bytes, uint8_t **out, zl_mapping **from) {
    const int64_t need = (bytes + PAGE - 1) / PAGE * PAGE;
    zl_mapping *m = *current;
    if (!m || need > m->bytes - m->used) {
        m = map(need);
        if (!m) return zl_fail(ZL_E_MEMORY, "memory for a weight needs %lld bytes", (long long)bytes);
        zl_mapping_drop(*current);
        *current = m;
    }
    atomic_fetch_add(&m->users, 1);
    *out = m->memory + m->used;
    *from = m;
    m->used += need;
    return ZL_OK;
}
