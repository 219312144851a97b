/* linear_store.h - the two ends of every product: a panel to read, and bias, then residual, then y. */
#ifndef ZL_LINEAR_STORE_H
#define ZL_LINEAR_STORE_H
#include "kernels.h"
#include "simd.h"

/* Panel i of a weight: where it is, or packed into `scratch` from the rows of a mapped file. */
ZL_INLINE const uint8_t *panel_of(const struct zl_weight *w, int64_t i, uint8_t *scratch) {
    const int64_t rows = w->rows - i * L;
    if (!w->mapped) return w->panels + i * w->panel_bytes;
    ZL_FN(pack)(w->form, rows < L ? rows : L, 0, w->cols, w->data + i * L * w->row_bytes, w->row_bytes, scratch);
    return scratch;
}

/* y[t][row .. row + L) = v + bias + residual; lanes beyond the last output belong to a panel's padding and are dropped. */
ZL_INLINE void store_outputs(const zl_result *r, int64_t t, int64_t row, vf v) {
    const int64_t left = r->cols - row, at = t * r->cols + row;
    if (left >= L) {
        if (r->bias) v += vf_load(r->bias + row);
        if (r->residual) v += vf_load(r->residual + at);
        vf_store(r->y + at, v);
    } else if (left > 0) {
        if (r->bias) v += vf_load_n(r->bias + row, (int)left);
        if (r->residual) v += vf_load_n(r->residual + at, (int)left);
        vf_store_n(r->y + at, v, (int)left);
    }
}
#endif
