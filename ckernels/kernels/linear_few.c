/* linear_few.c - products of a quantised weight with up to eight rows of x: decode. Bound by the memory's bandwidth.
 *
 * Panels are read once, forwards, two at a time: two streams fill more of a core's outstanding reads than one does, and two
 * accumulators hide the multiply-add's latency. A weight that is mapped is packed panel by panel into scratch and goes the same way.
 */
#include "linear_store.h"
#include "linear_tile.h"

/* Rows of x go 4, 2 and 1 at a time over the same two panels, which after the first time come from the L2 cache: unpacking again is
 * cheaper than code for every number of rows. */
enum { FEW_P = 2, FEW_N = 4 };

/* N rows of x from row n0 on */
ZL_INLINE void few_n(const int fmt, const int N, const struct zl_weight *w, const uint8_t *const *panel, int64_t at, int64_t end, int64_t n0,
                     const zl_activation *x, const zl_result *r) {
    const int64_t k = x->cols, from = n0 * k;
    const tile_x xs = {x->q + from, x->d + from / BLOCK, x->s + from / BLOCK * 2, k, k / BLOCK};
    vf acc[FEW_P * FEW_N];
    UNROLL for (int i = 0; i < FEW_P * N; i++) acc[i] = vf_zero();
    tile(fmt, FEW_P, N, 1, panel, 0, w->cols / BLOCK, &xs, acc);
    UNROLL for (int p = 0; p < FEW_P; p++) {
        if (at + p == end) break;
        UNROLL for (int n = 0; n < N; n++) store_outputs(r, n0 + n, (at + p) * L, acc[p * N + n]);
    }
}

ZL_INLINE void few_panels(const int fmt, const struct zl_weight *w, int64_t begin, int64_t end, const zl_activation *x, const zl_result *r,
                          uint8_t *scratch) {
    for (int64_t at = begin; at < end; at += FEW_P) {
        const uint8_t *panel[FEW_P];
        /* Where the number of panels is odd the last one is computed twice and stored once: no second copy of all this for one panel. */
        for (int p = 0; p < FEW_P; p++) panel[p] = panel_of(w, at + p < end ? at + p : end - 1, scratch + p * w->panel_bytes);
        int64_t n = 0;
        for (; n + 4 <= x->n; n += 4) few_n(fmt, 4, w, panel, at, end, n, x, r);
        if (n + 2 <= x->n) few_n(fmt, 2, w, panel, at, end, n, x, r), n += 2;
        if (n < x->n) few_n(fmt, 1, w, panel, at, end, n, x, r);
    }
}

#define FORMAT(fmt) case fmt: few_panels(fmt, w, begin, end, x, r, scratch); return;
void ZL_FN(few)(const struct zl_weight *w, int64_t begin, int64_t end, const zl_activation *x, const zl_result *r, uint8_t *scratch) {
    switch (w->type) {
        FORMAT(ZL_TYPE_Q4_0)
        FORMAT(ZL_TYPE_Q4_1)
        FORMAT(ZL_TYPE_Q5_0)
        FORMAT(ZL_TYPE_Q5_1)
        FORMAT(ZL_TYPE_Q8_0)
        FORMAT(ZL_TYPE_Q4_K)
        FORMAT(ZL_TYPE_Q5_K)
        FORMAT(ZL_TYPE_Q6_K)
    }
}
