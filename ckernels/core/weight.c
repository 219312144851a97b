/* weight.c - a weight matrix in its multiplication form: panels of interleaved rows, or the file's rows where they are mapped.
 *
 * What it is not: it knows no number format. Their sizes are in formats.c, what their bytes mean in kernels/.
 */
#include "core.h"
#include <stdlib.h>
#include <string.h>

/* ---- packing ----------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const zl_weight *w;
    const uint8_t *data;
    int64_t panels, per; /* panels in all, and per chunk */
    int64_t each;        /* panels of one matrix         */
    int release;         /* let go of the file's pages that were read */
} pack_job;

/* The file's row with which panel p begins: each matrix of a stack begins a panel, so that one expert's are whole panels and no kernel
 * need know of the others. Behind the last panel: the end. */
static int64_t row_of(const pack_job *j, int64_t p) { return p / j->each * j->w->rows + p % j->each * j->w->k->lanes; }

/* A chunk of panels. Its rows are read front to back, and the memory is touched first by the thread that writes it. Pages that were read are
 * let go: without that a large matrix would be in memory twice meanwhile. */
static void pack_chunk(void *arg, int64_t chunk, int thread) {
    const pack_job *j = arg;
    const zl_weight *w = j->w;
    (void)thread;
    for (int64_t p = chunk * j->per; p < (chunk + 1) * j->per && p < j->panels; p++) {
        int64_t left = w->rows - p % j->each * w->k->lanes, n = left < w->k->lanes ? left : w->k->lanes;
        w->k->pack(w->form, n, 0, w->cols, j->data + row_of(j, p) * w->row_bytes, w->row_bytes, w->panels + p * w->panel_bytes);
    }
    int64_t end = (chunk + 1) * j->per, from = row_of(j, chunk * j->per), to = row_of(j, end < j->panels ? end : j->panels);
    if (j->release) zl_guard_let_go(j->data + from * w->row_bytes, (to - from) * w->row_bytes);
}

static int64_t panels_of(const zl_weight *w) { return (w->rows + w->k->lanes - 1) / w->k->lanes; } /* of one matrix */

static int build(zl_ctx *ctx, zl_weight *w, const uint8_t *data, int64_t n_bytes, int flags) {
    enum { CHUNK_BYTES = 256 << 10, SHARES = 8 }; /* a small weight has several chunks too, or one thread would pack it alone */
    enum { LARGE = 4 << 20 };                     /* a smaller one's pages go all at once: each time all cores are told of it */
    const int64_t panels = w->stack * panels_of(w);
    w->own_bytes = panels * w->panel_bytes;
    /* On several nodes each weight begins a huge page, so that its parts can be placed. */
    const int together = flags & ZL_WEIGHT_TOGETHER && !zl_ctx_several_nodes(ctx);
    int status = together ? zl_mapping_take(zl_ctx_weights(ctx), w->own_bytes, &w->panels, &w->mapping)
                          : zl_alloc_unwritten(w->own_bytes, (void **)&w->panels);
    if (status) return status;
    const int release = flags & ZL_WEIGHT_RELEASE;
    const int64_t chunk = w->own_bytes / SHARES < CHUNK_BYTES ? w->own_bytes / SHARES : CHUNK_BYTES;
    /* Before the first touch, which is the packing: it writes every byte, those of absent rows with 0. */
    zl_numa_bind(ctx, w->panels, panels, w->panel_bytes);
    pack_job j = {w, data, panels, 1 + chunk / w->panel_bytes, panels_of(w), release && n_bytes >= LARGE};
    zl_parallel(ctx, (j.panels + j.per - 1) / j.per, pack_chunk, &j);
    if (release) zl_guard_let_go(data, n_bytes); /* a fault maps its neighbours too: pages at the edges of chunks have come back */
    return zl_guard_check(data, n_bytes);
}

int zl_weight_new_stack(zl_ctx *ctx, int type, int64_t stack, int64_t rows, int64_t cols, const void *data, int64_t n_bytes, int flags, zl_weight **out) {
    if (!out) return zl_fail(ZL_E_ARG, "zl_weight_new: out is a null pointer");
    *out = NULL;
    if (!data) return zl_fail(ZL_E_ARG, "zl_weight_new: data is a null pointer");
    if (flags & ~(ZL_WEIGHT_MAPPED | ZL_WEIGHT_RELEASE | ZL_WEIGHT_BF16 | ZL_WEIGHT_TOGETHER)) return zl_fail(ZL_E_ARG, "zl_weight_new: unknown flags %#x", (unsigned)flags);
    if (flags & ZL_WEIGHT_RELEASE && !zl_guarded(data, n_bytes)) /* memory that is no file's would be lost for good */
        return zl_fail(ZL_E_ARG, "zl_weight_new: %lld bytes to be released lie in no guarded range", (long long)n_bytes);
    const zl_format *f = zl_format_of(type);
    if (!f) return zl_fail(ZL_E_TYPE, "zl_weight_new: unknown type %d", type);
    if (!f->multiplied && !(flags & ZL_WEIGHT_MAPPED)) /* mapped, its rows can be read: an embedding */
        return zl_fail(ZL_E_TYPE, "zl_weight_new: no kernel multiplies %s", f->name);
    if (flags & ZL_WEIGHT_BF16 && type != ZL_TYPE_F16 && type != ZL_TYPE_BF16)
        return zl_fail(ZL_E_TYPE, "zl_weight_new: %s is not multiplied in bf16", f->name);
    if (stack < 1 || rows < 1 || cols < 1 || rows >= ZL_MOST / (stack < ZL_MOST ? stack : ZL_MOST) || cols >= ZL_MOST)
        return zl_fail(ZL_E_SHAPE, "zl_weight_new: %lld weights of (%lld, %lld)", (long long)stack, (long long)rows, (long long)cols);
    if (cols % f->cols)
        return zl_fail(ZL_E_SHAPE, "zl_weight_new: %lld columns are no multiple of %s's quant block of %d", (long long)cols, f->name, f->cols);
    const int64_t row_bytes = cols / f->cols * f->bytes; /* at most 2^34 */
    if (row_bytes > INT64_MAX / (stack * rows) || n_bytes != stack * rows * row_bytes)
        return zl_fail(ZL_E_SHAPE, "zl_weight_new: %lld bytes for (%lld, %lld) of %s, want %lld rows of %lld", (long long)n_bytes,
                       (long long)(stack * rows), (long long)cols, f->name, (long long)(stack * rows), (long long)row_bytes);
    zl_entry entry;
    int status = zl_enter(ctx, "zl_weight_new", &entry);
    if (status) return status;
    if (flags & ZL_WEIGHT_BF16 && !zl_ctx_kernels(ctx)->bf16)
        return zl_leave(&entry, zl_fail(ZL_E_ISA_CPU, "products in bf16 need the ISA variant 'avx512bf16'; this context runs '%s'",
                                        zl_ctx_kernels(ctx)->isa));
    zl_weight *w = calloc(1, sizeof *w);
    if (!w) return zl_leave(&entry, zl_fail(ZL_E_MEMORY, "zl_weight_new needs %zu bytes", sizeof *w));
    w->type = type, w->stack = stack, w->rows = rows, w->cols = cols, w->row_bytes = row_bytes, w->k = zl_ctx_kernels(ctx);
    w->form = flags & ZL_WEIGHT_BF16 ? ZL_PAIRS : type;
    w->panel_bytes = (w->form == ZL_PAIRS ? (cols + 1) / 2 * 4 : row_bytes) * w->k->lanes;
    if (flags & ZL_WEIGHT_MAPPED) w->mapped = 1, w->data = data, w->let_go = (flags & ZL_WEIGHT_RELEASE) != 0;
    else status = build(ctx, w, data, n_bytes, flags);
    if (status) zl_weight_free(w);
    else *out = w;
    return zl_leave(&entry, status);
}

int zl_weight_new(zl_ctx *ctx, int type, int64_t rows, int64_t cols, const void *data, int64_t n_bytes, int flags, zl_weight **out) {
    return zl_weight_new_stack(ctx, type, 1, rows, cols, data, n_bytes, flags, out);
}

int zl_weights_new(zl_ctx *ctx, int64_t n, const zl_matrix *matrices, zl_weight **out) {
    if (!out || !matrices) return zl_fail(ZL_E_ARG, "zl_weights_new: matrices or out is a null pointer");
    for (int64_t i = 0; i < n; i++) {
        const zl_matrix *m = matrices + i;
        const int status = zl_weight_new_stack(ctx, m->type, m->stack, m->rows, m->cols, m->data, m->n_bytes, m->flags, out + i);
        if (!status) continue;
        for (; i >= 0; i--) zl_weight_free(out[i]), out[i] = NULL;
        return status;
    }
    return ZL_OK;
}

void zl_weight_free(zl_weight *w) {
    if (!w) return;
    if (w->mapping) zl_mapping_drop(w->mapping);
    else zl_release(w->panels, w->own_bytes);
    free(w);
}

int64_t zl_weight_bytes(const zl_weight *w) { return w ? w->own_bytes : 0; }

/* A row of a panel of pairs: its halves are brought together, some at a time. */
static void pair_row(const zl_weight *w, const uint8_t *panel, int64_t lane, float *dst) {
    enum { SOME = 64 };
    uint16_t half[SOME];
    for (int64_t k0 = 0; k0 < w->cols; k0 += SOME) {
        const int64_t n = w->cols - k0 < SOME ? w->cols - k0 : SOME;
        for (int64_t i = 0, k = k0; i < n; i++, k++) memcpy(half + i, panel + (k / 2 * w->k->lanes + lane) * 4 + k % 2 * 2, 2);
        w->k->dequantize(w->type, n, (const uint8_t *)half, dst + k0);
    }
}

void zl_weight_row(const zl_weight *w, int64_t row, float *dst) {
    if (w->mapped) w->k->dequantize(w->type, w->cols, w->data + row * w->row_bytes, dst);
    else if (w->form == ZL_PAIRS) pair_row(w, w->panels + row / w->k->lanes * w->panel_bytes, row % w->k->lanes, dst);
    else w->k->unpack_row(w->type, w->cols, w->panels + row / w->k->lanes * w->panel_bytes, (int)(row % w->k->lanes), dst);
}

/* ---- what ops ask of it ---------------------------------------------------------------------------------------------------------------- */

int zl_weight_widens(const zl_weight *w) {
    return zl_format_of(w->type)->multiplied == ZL_WIDENED || (w->type == ZL_TYPE_Q6_K && w->k->widens_q6_k);
}

int64_t zl_weight_scratch(const zl_weight *w) {
    const int lanes = w->k->lanes;
    if (zl_weight_is_float(w)) return zl_float_scratch(w);
    return zl_quant_scratch(w, lanes) + (zl_weight_widens(w) ? zl_wide_scratch(w, lanes) : 0);
}
