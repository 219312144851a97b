/* linear_few.c - products of a quantised weight with up to eight rows of x: decode. Bound by the memory's bandwidth.
 *
 * Panels are read once, forwards, two at a time: two streams fill more of a core's outstanding reads than one does, and two
 * accumulators hide the multiply-add's latency. A weight that is mapped is packed panel by panel into scratch and goes the same way.
 */
#include "linear_store.h"
#include "linear_tile.h"

enum { FEW_P = 2 };

typedef struct {
    const struct zl_weight *w;
    const uint8_t *panel[FEW_P];
    int64_t at, end;           /* the number of the first panel, and of the last one + 1 */
    const zl_activation *x;
    const zl_result *r;
} few_job;

/* N rows of x from row t + i on, of the group of g rows that begins with row t */
ZL_INLINE void few_n(const int fmt, const int N, const few_job *j, int64_t t, int64_t i, const int64_t g) {
    const int64_t blocks = j->w->cols / BLOCK;
    vf acc[FEW_P * ZL_GROUP];
    UNROLL for (int a = 0; a < FEW_P * N; a++) acc[a] = vf_zero();
    tile(fmt, FEW_P, N, 1, j->panel, 0, blocks, j->x->blocks + t * blocks * ZL_X_WORDS + i, g, acc);
    UNROLL for (int p = 0; p < FEW_P; p++) {
        if (j->at + p == j->end) break;
        UNROLL for (int n = 0; n < N; n++) store_outputs(j->r, t + i + n, (j->at + p) * L, acc[p * N + n]);
    }
}

ZL_INLINE void few_panels(const int fmt, const struct zl_weight *w, int64_t begin, int64_t end, const zl_activation *x, const zl_result *r,
                          uint8_t *scratch) {
    few_job j = {.w = w, .end = end, .x = x, .r = r};
    for (j.at = begin; j.at < end; j.at += FEW_P) {
        /* Where the number of panels is odd the last one is computed twice and stored once: no second copy of all this for one panel. */
        for (int p = 0; p < FEW_P; p++) j.panel[p] = panel_of(w, j.at + p < end ? j.at + p : end - 1, scratch + p * w->panel_bytes);
        /* Whole groups; of the last one 4, 2 and 1 rows: unpacking the panels again, from the cache, is cheaper than code for every number. */
        int64_t t = 0, i = 0;
        for (; t + ZL_GROUP <= x->n; t += ZL_GROUP) few_n(fmt, ZL_GROUP, &j, t, 0, ZL_GROUP);
        const int64_t g = x->n - t;
        if (g == 1) { /* decode */
            few_n(fmt, 1, &j, t, 0, 1);
            continue;
        }
        if (ZL_GROUP > 4 && i + 4 <= g) few_n(fmt, 4, &j, t, i, g), i += 4;
        if (ZL_GROUP > 2 && i + 2 <= g) few_n(fmt, 2, &j, t, i, g), i += 2;
        if (i < g) few_n(fmt, 1, &j, t, i, g);
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
