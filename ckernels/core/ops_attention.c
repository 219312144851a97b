/* ops_attention.c - the opcodes of the KV cache: storing a step's keys and values, and attention over what is stored.
 *
 * The arithmetic of one query row over one span of 64 positions is the kernels' (kernels/attention.h). Here the work is cut, in one of
 * two ways that give the same bits, because a row's spans are always computed one by one and merged in ascending order:
 *
 *      by rows     a chunk = (block of adjacent rows of one sequence, kv head). It walks the spans of its rows and merges as it goes.
 *                  Prefill, batches, one thread.
 *      by spans    a chunk = some of the (block, kv head, span). Each span leaves its own maximum, sum and values in shared scratch; then
 *                  they are merged, row by row. Few rows with a long past: decode on several threads.
 *
 * The heads that share a kv head are rows of the same block: they share one pass over its keys and values.
 */
#include "core.h"
#include <math.h>
#include <string.h>

enum {
    BLOCK_ROWS = 96,          /* query rows (tokens x heads of a kv head) that share a widened page                        */
    TILE_ROWS = 6,            /* rows of a tile at most (see attention_tile.h): 6 x 4 vectors keep 24 of 32 registers busy */
    WIDEN_ROWS = 12,          /* more rows than this, and a page is converted to float32 once for all their tiles         */
    SPLIT = 128,              /* (row, span) pairs per head that may wait to be merged                                    */
    SPLIT_ROWS = 32,          /* more rows than this are not cut by spans                                                 */
    CHUNKS_PER_THREAD = 4,
    SMALL = 1 << 17,          /* multiply-adds below which waking other threads costs more than it gives                  */
    STORE_SMALL = 1 << 14     /* the same in values for storing                                                           */
};

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t pad16(int64_t n) { return (n + 15) & ~(int64_t)15; }

/* Bytes of a page of one layer and one kv head; Q8_0: 64 codes and 2 halves per channel. */
static int64_t page_bytes(const zl_cache *c, int64_t channels) {
    return channels * (c->type == ZL_TYPE_Q8_0 ? ZL_PAGE + 2 * ZL_PAGE / ZL_KV_BLOCK : c->type == ZL_TYPE_F16 ? 2 * ZL_PAGE : 4 * ZL_PAGE);
}

/* A page of one layer and one kv head; keys [4][dk][16], values [64][dv], see zl_cache. */
static void *page_of(const zl_cache *c, const void *base, int64_t page, int layer, int head, int64_t channels) {
    int64_t index = (page * c->n_layer + layer) * c->n_kv + head;
    return (char *)base + index * page_bytes(c, channels);
}

/* ---- kv store ------------------------------------------------------------------------------------------------------------------- */

/* in[i] is a cache that has layer `layer` */
static int want_cache(const char *name, const zl_tensor *t, int i, int layer) {
    int status = zl_want_kind(name, t, i, ZL_CACHE);
    if (status) return status;
    const zl_cache *c = t[i].data;
    if (c->state) return zl_fail(ZL_E_TYPE, "%s: tensor %d is a cache of states, want keys and values", name, i);
    if (layer < 0 || layer >= c->n_layer) return zl_fail(ZL_E_BOUNDS, "%s: layer %d of a cache class with %d", name, layer, c->n_layer);
    return ZL_OK;
}

static int want_step_rows(const char *name, const zl_tensor *t, int i, int64_t cols) {
    int status = zl_want_rows(name, t, i, cols);
    if (!status && t[i].rows_kind != ZL_ROWS_STEP) return zl_fail(ZL_E_SHAPE, "%s: tensor %d does not have the step's rows", name, i);
    return status;
}

static int check_store(const zl_op *op, const zl_tensor *t) {
    int status = want_cache("kv_store", t, op->in[2], op->ip[0]);
    if (status) return status;
    const zl_cache *c = t[op->in[2]].data;
    status = want_step_rows("kv_store", t, op->in[0], (int64_t)c->n_kv * c->dk);
    return status ? status : want_step_rows("kv_store", t, op->in[1], (int64_t)c->n_kv * c->dv);
}

typedef struct {
    const zl_run_state *r;
    const zl_cache *cache;
    const float *k, *v;
    int layer;
    int64_t per; /* rows per chunk */
} store_job;

static void store_chunk(void *arg, int64_t chunk, int thread) {
    const store_job *j = arg;
    const zl_cache *c = j->cache;
    const zl_step *s = j->r->step;
    int f16 = c->type == ZL_TYPE_F16;
    (void)thread;
    for (int64_t t = chunk * j->per; t < min64((chunk + 1) * j->per, s->n_rows); t++) {
        int64_t page = s->tables[c->cls][(int64_t)s->seq[t] * s->table_width[c->cls] + s->cache_pos[t] / ZL_PAGE];
        int at = s->cache_pos[t] % ZL_PAGE;
        for (int g = 0; g < c->n_kv; g++) {
            char *k = page_of(c, c->k, page, j->layer, g, c->dk), *v = page_of(c, c->v, page, j->layer, g, c->dv);
            int64_t key = (int64_t)(at / ZL_KEY_GROUP) * c->dk * ZL_KEY_GROUP + at % ZL_KEY_GROUP;
            if (c->type == ZL_TYPE_Q8_0) { /* codes, then scales, in the same order */
                uint16_t *ks = (uint16_t *)(void *)(k + ZL_PAGE * c->dk), *vs = (uint16_t *)(void *)(v + ZL_PAGE * c->dv);
                ks += (int64_t)(at / ZL_KEY_GROUP) * (c->dk / ZL_KV_BLOCK) * ZL_KEY_GROUP + at % ZL_KEY_GROUP;
                vs += (int64_t)at * (c->dv / ZL_KV_BLOCK);
                j->r->k->kv_store_q8(c->dk, j->k + (t * c->n_kv + g) * c->dk, (int8_t *)k + key, ks, ZL_KEY_GROUP);
                j->r->k->kv_store_q8(c->dv, j->v + (t * c->n_kv + g) * c->dv, (int8_t *)v + (int64_t)at * c->dv, vs, 1);
                continue;
            }
            j->r->k->kv_store(f16, c->dk, j->k + (t * c->n_kv + g) * c->dk, k + key * (f16 ? 2 : 4), ZL_KEY_GROUP);
            j->r->k->kv_store(f16, c->dv, j->v + (t * c->n_kv + g) * c->dv, v + (int64_t)at * c->dv * (f16 ? 2 : 4), 1);
        }
    }
}

/* That every row has a page of the pool to go to, and that positions ascend, was checked with the step (core/step.c). */
static void run_store(zl_run_state *r, const zl_op *op) {
    const zl_cache *c = r->tensors[op->in[2]].data;
    int64_t n = r->step->n_rows, width = (int64_t)c->n_kv * (c->dk + c->dv);
    store_job j = {r, c, zl_data_of(r, op->in[0]), zl_data_of(r, op->in[1]), op->ip[0], n};
    if (n * width > STORE_SMALL) j.per = max64(ZL_KEY_GROUP, ceil_div(n, (int64_t)CHUNKS_PER_THREAD * zl_ctx_threads(r->ctx)));
    if (n) zl_parallel(r->ctx, ceil_div(n, j.per), store_chunk, &j);
}

/* ---- attention: checks ---------------------------------------------------------------------------------------------------------- */

static int overlap(const zl_tensor *a, const zl_tensor *b) {
    if (a->kind != b->kind) return 0;
    if (a->kind == ZL_ARENA) return a->offset < b->offset + b->cols && b->offset < a->offset + a->cols;
    return a->data == b->data;
}

/* in: q (T, H*dk), cache, slopes (H) or none; ip: layer, H, window; fp: scale, softcap; out (T, H*dv) */
static int check_attention(const zl_op *op, const zl_tensor *t) {
    int status = want_cache("attention", t, op->in[1], op->ip[0]);
    if (status) return status;
    const zl_cache *c = t[op->in[1]].data;
    int heads = op->ip[1], window = op->ip[2], memory = op->ip[3];
    if (heads < 1 || heads % c->n_kv) return zl_fail(ZL_E_SHAPE, "attention: %d heads over %d kv heads", heads, c->n_kv);
    if (window < 0) return zl_fail(ZL_E_ARG, "attention: a window of %d positions", window);
    if (memory < 0 || (memory && (window || op->in[2] >= 0)))
        return zl_fail(ZL_E_ARG, "attention: memory %d (a position plane + 1), a window of %d positions, slopes in tensor %d", memory, window, op->in[2]);
    if (!isfinite(op->fp[0]) || !isfinite(op->fp[1]) || op->fp[1] < 0)
        return zl_fail(ZL_E_ARG, "attention: scale %g, softcap %g", (double)op->fp[0], (double)op->fp[1]);
    if (op->in[2] >= 0) status = zl_want_const("attention", t, op->in[2], heads);
    if (!status) status = want_step_rows("attention", t, op->in[0], (int64_t)heads * c->dk);
    if (!status) status = want_step_rows("attention", t, op->out[0], (int64_t)heads * c->dv);
    if (!status && overlap(&t[op->in[0]], &t[op->out[0]]))
        return zl_fail(ZL_E_ARG, "attention: the result (tensor %d) lies over the queries (tensor %d)", op->out[0], op->in[0]);
    return status;
}

/* Row t sees the positions first .. last; nothing if first > last. */
static inline int32_t first_seen(const zl_step *s, int64_t t, int32_t window) {
    return window && s->cache_pos[t] >= window ? s->cache_pos[t] - window + 1 : 0;
}
static inline int32_t last_seen(const zl_step *s, int64_t t, int32_t memory) {
    return memory ? s->positions[(int64_t)(memory - 1) * s->n_rows + t] : s->see_to[t];
}

/* The planes and the table that a memory needs, which no row of the step has been held against. */
static int check_step_memory(const zl_op *op, const zl_cache *c, const zl_step *s) {
    const int32_t memory = op->ip[3];
    int status = zl_want_plane("attention", memory - 1, s);
    if (status || s->n_rows == 0) return status;
    if (!s->tables[c->cls] || s->table_width[c->cls] <= 0) return zl_fail(ZL_E_ARG, "attention: no page table for cache class %d", c->cls);
    for (int64_t row = 0; row < s->n_rows; row++)
        if (last_seen(s, row, memory) / ZL_PAGE >= s->table_width[c->cls])
            return zl_fail(ZL_E_BOUNDS, "attention: row %lld sees a memory up to position %d, the table of cache class %d has %d pages of %d",
                           (long long)row, last_seen(s, row, memory), c->cls, s->table_width[c->cls], ZL_PAGE);
    return ZL_OK;
}

/* Every page of which some row sees something is a page of the pool. Rows of one sequence see much the same: pages from..to-1 of it are
 * known to be good. */
static int check_step_attention(const zl_op *op, const zl_tensor *t, const zl_step *s) {
    const zl_cache *c = t[op->in[1]].data;
    int64_t width = s->table_width[c->cls], from = 0, to = 0;
    int status = op->ip[3] ? check_step_memory(op, c, s) : ZL_OK;
    if (status) return status;
    for (int64_t row = 0; row < s->n_rows; row++) {
        const int32_t *table = s->tables[c->cls] + s->seq[row] * width;
        int32_t first = first_seen(s, row, op->ip[2]), last = last_seen(s, row, op->ip[3]);
        if (row && s->seq[row] != s->seq[row - 1]) from = to = 0;
        if (first > last) continue;
        int64_t lo = first / ZL_PAGE, hi = last / ZL_PAGE + 1;
        for (int64_t i = lo; i < hi; i++) {
            if (i >= from && i < to) { i = to - 1; continue; }
            if (table[i] < 0 || table[i] >= c->n_pages)
                return zl_fail(ZL_E_BOUNDS, "attention: row %lld of sequence %d sees positions %d to %d, but page %lld of its table is %d of %d",
                               (long long)row, s->seq[row], first, last, (long long)i, table[i], c->n_pages);
        }
        if (lo > to || hi < from) from = lo, to = hi; /* apart: keep the newer */
        else from = min64(from, lo), to = max64(to, hi);
    }
    return ZL_OK;
}

/* ---- attention: a run ------------------------------------------------------------------------------------------------------------ */

/* Adjacent rows of one sequence, and the spans of which some row sees something. */
typedef struct {
    int32_t row, n_rows;
    int32_t span, n_spans;
} block;

typedef struct {
    const zl_run_state *r;
    const zl_cache *cache;
    const float *q;
    float *out;
    int heads, group, layer, window, memory; /* group = heads of one kv head */
    float scale, softcap;
    const float *slopes;             /* [heads], or NULL                                               */
    int64_t v_pad;                   /* dv, up to a multiple of 16                                     */
    block *blocks;                   /* [n_blocks]                                                     */
    int64_t n_blocks;
    /* by spans: units are numbered (block, kv head, span of this wave)                                 */
    int64_t wave, wave_spans;        /* the wave's first span, counted from the block's own; spans of a wave */
    int64_t units, units_per_chunk;
    float *part_m, *part_l, *part_o; /* [T][heads][wave_spans] (, v_pad)                                */
    float *m, *l;                    /* [T][heads]: the state between waves                              */
    int64_t rows_per_chunk;          /* (row, head) pairs per chunk of the merge                         */
} job;

/* What a thread has for itself. */
typedef struct {
    float *k, *v;      /* widened pages: [4][dk][16] and [64][v_stride]    */
    float *q, *p;      /* interleaved queries; scores and weights of a tile */
    float *m, *l, *slope;
    float **o;
    int32_t *lo, *hi, *away;
} workspace;

/* Query rows in a block at most: whole tiles, since the last one stands interleaved as if it were full (gather_queries). */
static int64_t block_capacity(int64_t group) { return ceil_div(max64(group, BLOCK_ROWS), TILE_ROWS) * TILE_ROWS; }

/* The rows of widened values are whole vectors, as kv_load writes them. */
static int64_t v_stride(const zl_cache *c, int lanes) { return ceil_div(c->dv, lanes) * lanes; }

static workspace carve(const job *j, int thread) {
    int64_t n = block_capacity(j->group), dk = j->cache->dk;
    workspace w;
    w.k = (float *)j->r->private_[thread];
    w.v = w.k + ZL_PAGE * dk;
    w.q = w.v + ZL_PAGE * v_stride(j->cache, j->r->k->lanes);
    w.p = w.q + pad16(n * dk);
    w.m = w.p + ZL_QUERY_TILE * ZL_PAGE;
    w.l = w.m + pad16(n);
    w.slope = w.l + pad16(n);
    w.lo = (int32_t *)(w.slope + pad16(n));
    w.hi = w.lo + pad16(n), w.away = w.hi + pad16(n);
    w.o = (float **)(w.away + pad16(n));
    return w;
}

static void scratch_attention(const zl_ctx *ctx, const zl_op *op, const zl_tensor *t, int64_t rows, int64_t *shared, int64_t *private_) {
    const zl_cache *c = t[op->in[1]].data;
    int64_t heads = op->ip[1], n = block_capacity(heads / c->n_kv), v_pad = pad16(c->dv);
    *private_ = 4 * (ZL_PAGE * (c->dk + v_stride(c, zl_ctx_kernels(ctx)->lanes)) + pad16(n * c->dk) + ZL_QUERY_TILE * ZL_PAGE + 6 * pad16(n)) + n * (int64_t)sizeof(float *);
    *shared = pad16(rows) * (int64_t)sizeof(block) + 4 * (2 * pad16(SPLIT_ROWS * heads) + 2 * pad16(SPLIT * heads) + SPLIT * heads * v_pad);
}

/* Query row i of a block and kv head is token i / group, head i % group: the number of its (token, head) among all of the step. */
static inline int64_t pair_of(const job *j, const block *b, int head, int i) {
    return (int64_t)(b->row + i / j->group) * j->heads + head * j->group + i % j->group;
}

/* Rows of a tile: n query rows as evenly as they go into tiles. */
static inline int tile_of(int n) {
    int tiles = (n + TILE_ROWS - 1) / TILE_ROWS;
    return (n + tiles - 1) / tiles;
}

/* Queries of a block and kv head, the rows of a tile interleaved: [tile][dk][rows], and scaled; the slope of each, in powers of two. */
static int gather_queries(const job *j, const block *b, int head, const workspace *w) {
    int dk = j->cache->dk, n = b->n_rows * j->group, tile = tile_of(n);
    float factor = zl_query_factor(j->scale, j->softcap);
    for (int i = 0; i < n; i++) {
        const float *q = j->q + pair_of(j, b, head, i) * dk;
        float *dst = w->q + (int64_t)(i / tile) * tile * dk + i % tile;
        for (int c = 0; c < dk; c++) dst[c * tile] = q[c] * factor;
        if (j->slopes) w->slope[i] = zl_slope_factor(j->slopes[head * j->group + i % j->group]);
    }
    return n;
}

/* What each query row sees of a span; 0: no row sees anything, and there may be no page. */
static int set_ranges(const job *j, const block *b, int64_t span, const workspace *w) {
    const zl_step *s = j->r->step;
    int64_t base = span * ZL_PAGE;
    int seen = 0;
    for (int i = 0; i < b->n_rows; i++) {
        int64_t from = max64(first_seen(s, b->row + i, j->window) - base, 0), to = min64((int64_t)last_seen(s, b->row + i, j->memory) + 1 - base, ZL_PAGE);
        if (from >= to) from = to = 0;
        else seen = 1;
        for (int h = i * j->group; h < (i + 1) * j->group; h++) w->lo[h] = (int32_t)from, w->hi[h] = (int32_t)to;
        if (j->slopes)
            for (int h = i * j->group; h < (i + 1) * j->group; h++) w->away[h] = (int32_t)(base - s->cache_pos[b->row + i]);
    }
    return seen;
}

/* The keys of a span, or `otherwise` where it has no page. */
static const void *keys_of(const job *j, const block *b, int head, int64_t span, const void *otherwise) {
    const zl_cache *c = j->cache;
    int64_t width = j->r->step->table_width[c->cls];
    const int32_t *table = j->r->step->tables[c->cls] + (int64_t)j->r->step->seq[b->row] * width;
    return span < width && table[span] >= 0 && table[span] < c->n_pages ? page_of(c, c->k, table[span], j->layer, head, c->dk) : otherwise;
}

/* The page of a span, for n query rows; `next`: the span whose keys will be wanted after it, of head `next_head`. */
static zl_attention_span open_span(const job *j, const block *b, int head, int64_t span, int n, int next_head, int64_t next, const workspace *w) {
    const zl_cache *c = j->cache;
    const zl_step *s = j->r->step;
    const zl_kernels *kernels = j->r->k;
    int32_t page = s->tables[c->cls][(int64_t)s->seq[b->row] * s->table_width[c->cls] + span];
    int f16 = c->type == ZL_TYPE_F16;
    zl_attention_span p = {.k_f16 = f16, .v_f16 = f16, .v_stride = c->dv};
    p.k = page_of(c, c->k, page, j->layer, head, c->dk), p.v = page_of(c, c->v, page, j->layer, head, c->dv);
    p.next_k = keys_of(j, b, next_head, next, p.k);
    if (c->type == ZL_TYPE_Q8_0) {
        kernels->kv_load_q8(1, c->dk, p.k, w->k, p.v);
        kernels->kv_load_q8(0, c->dv, p.v, w->v, p.next_k);
        p.k = w->k, p.v = w->v;
        return p;
    }
    if (f16 && n > WIDEN_ROWS) {
        kernels->kv_load(f16, 1, ZL_PAGE * c->dk, p.k, w->k, ZL_PAGE * c->dk);
        p.k = w->k, p.k_f16 = 0;
    }
    if (c->dv < kernels->lanes || (f16 && n > WIDEN_ROWS)) {
        p.v_stride = v_stride(c, kernels->lanes);
        kernels->kv_load(f16, ZL_PAGE, c->dv, p.v, w->v, p.v_stride);
        p.v = w->v, p.v_f16 = 0;
    }
    return p;
}

static zl_attention queries_of(const job *j, const workspace *w, int n_q, int merge) {
    return (zl_attention){n_q, tile_of(n_q), j->cache->dk, j->cache->dv, j->softcap, w->q, w->p, w->lo, w->hi, w->m, w->l, w->o, merge,
                          j->slopes ? w->slope : NULL, w->away};
}

/* by rows: chunk = block * n_kv + kv head */
static void block_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    const block *b = &j->blocks[chunk / j->cache->n_kv];
    int head = (int)(chunk % j->cache->n_kv), dv = j->cache->dv;
    workspace w = carve(j, thread);
    int n = gather_queries(j, b, head, &w);
    for (int i = 0; i < n; i++) {
        w.o[i] = j->out + pair_of(j, b, head, i) * dv;
        w.m[i] = -INFINITY, w.l[i] = 0;
        memset(w.o[i], 0, (size_t)dv * sizeof(float));
    }
    zl_attention a = queries_of(j, &w, n, 1);
    for (int64_t span = b->span; span < b->span + b->n_spans; span++) {
        if (!set_ranges(j, b, span, &w)) continue;
        zl_attention_span s = open_span(j, b, head, span, n, head, span + 1, &w);
        j->r->k->attention_span(&a, &s);
    }
    for (int i = 0; i < n; i++) j->r->k->attention_finish(dv, w.l[i], w.o[i]);
}

/* by spans: the units of one chunk */
static void span_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    workspace w = carve(j, thread);
    int64_t gathered = -1;
    int n = 0;
    int64_t to = min64((chunk + 1) * j->units_per_chunk, j->units);
    for (int64_t u = chunk * j->units_per_chunk; u < to; u++) {
        int64_t s = u % j->wave_spans, which = u / j->wave_spans;
        const block *b = &j->blocks[which / j->cache->n_kv];
        int head = (int)(which % j->cache->n_kv);
        if (j->wave + s >= b->n_spans) continue;
        if (which != gathered) n = gather_queries(j, b, head, &w), gathered = which;
        if (set_ranges(j, b, b->span + j->wave + s, &w)) {
            for (int i = 0; i < n; i++) w.o[i] = j->part_o + (pair_of(j, b, head, i) * j->wave_spans + s) * j->v_pad;
            zl_attention a = queries_of(j, &w, n, 0);
            int over = j->wave + s + 1 == b->n_spans; /* the next unit is another head's */
            zl_attention_span sp = open_span(j, b, head, b->span + j->wave + s, n, head + (over && head + 1 < j->cache->n_kv),
                                             over ? b->span + j->wave : b->span + j->wave + s + 1, &w);
            j->r->k->attention_span(&a, &sp);
        }
        for (int i = 0; i < n; i++) {
            int64_t part = pair_of(j, b, head, i) * j->wave_spans + s;
            int nothing = w.lo[i] >= w.hi[i]; /* a sum of 0 says so */
            j->part_m[part] = nothing ? 0 : w.m[i], j->part_l[part] = nothing ? 0 : w.l[i];
        }
    }
}

/* by spans: merging one wave into the rows, spans ascending */
static void merge_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    int64_t rows = (int64_t)j->r->step->n_rows * j->heads, dv = j->cache->dv, b = 0;
    (void)thread;
    for (int64_t i = chunk * j->rows_per_chunk; i < min64((chunk + 1) * j->rows_per_chunk, rows); i++) {
        while (i / j->heads >= j->blocks[b].row + j->blocks[b].n_rows) b++;
        int64_t spans = min64(j->blocks[b].n_spans - j->wave, j->wave_spans);
        float *o = j->out + i * dv;
        if (j->wave == 0) j->m[i] = -INFINITY, j->l[i] = 0, memset(o, 0, (size_t)dv * sizeof *o);
        int64_t part = i * j->wave_spans;
        j->r->k->attention_merge(spans, dv, &j->m[i], &j->l[i], o, j->part_m + part, j->part_l + part, j->part_o + part * j->v_pad, j->v_pad);
        if (spans > 0 ? j->wave + spans >= j->blocks[b].n_spans : j->wave == 0) j->r->k->attention_finish(dv, j->l[i], o);
    }
}

/* Cut the step into blocks of at most `most` rows; returns the largest number of spans of a block. */
static int64_t cut_blocks(job *j, int64_t most) {
    const zl_step *s = j->r->step;
    int64_t longest = 0;
    j->n_blocks = 0;
    for (int32_t t = 0; t < s->n_rows;) {
        block *b = &j->blocks[j->n_blocks++];
        int64_t from = INT32_MAX, to = 0;
        *b = (block){.row = t};
        for (; t < s->n_rows && b->n_rows < most && s->seq[t] == s->seq[b->row]; t++, b->n_rows++) {
            int64_t first = first_seen(s, t, j->window), last = last_seen(s, t, j->memory);
            if (first > last) continue;
            from = min64(from, first / ZL_PAGE), to = max64(to, last / ZL_PAGE + 1);
        }
        if (to > from) b->span = (int32_t)from, b->n_spans = (int32_t)(to - from);
        longest = max64(longest, b->n_spans);
    }
    return longest;
}

static void run_by_spans(job *j, int64_t longest, int64_t threads) {
    int64_t rows = j->r->step->n_rows, n = rows * j->heads;
    float *at = (float *)(j->blocks + pad16(rows));
    j->wave_spans = min64(longest, SPLIT / rows); /* the fewer rows, the more spans the same memory holds */
    j->m = at, j->l = j->m + pad16(n);
    j->part_m = j->l + pad16(n), j->part_l = j->part_m + pad16(n * j->wave_spans);
    j->part_o = j->part_l + pad16(n * j->wave_spans);
    for (j->wave = 0; j->wave < longest; j->wave += j->wave_spans) {
        j->wave_spans = min64(j->wave_spans, longest - j->wave);
        j->units = j->n_blocks * j->cache->n_kv * j->wave_spans;
        j->units_per_chunk = ceil_div(j->units, CHUNKS_PER_THREAD * threads);
        zl_parallel(j->r->ctx, ceil_div(j->units, j->units_per_chunk), span_chunk, j);
        j->rows_per_chunk = n * j->wave_spans * j->v_pad < SMALL ? n : ceil_div(n, threads);
        zl_parallel(j->r->ctx, ceil_div(n, j->rows_per_chunk), merge_chunk, j);
    }
}

static void run_attention(zl_run_state *r, const zl_op *op) {
    const zl_cache *c = r->tensors[op->in[1]].data;
    job j = {.r = r, .cache = c, .q = zl_data_of(r, op->in[0]), .out = zl_data_of(r, op->out[0]), .layer = op->ip[0], .heads = op->ip[1],
             .window = op->ip[2], .memory = op->ip[3], .scale = op->fp[0], .softcap = op->fp[1], .slopes = zl_data_of(r, op->in[2]), .group = op->ip[1] / c->n_kv, .v_pad = pad16(c->dv),
             .blocks = (block *)r->shared};
    int64_t rows = r->step->n_rows, threads = zl_ctx_threads(r->ctx);
    if (rows == 0) return;
    /* blocks as large as their scratch, but small enough that there are chunks for everybody; whole tiles where there are several */
    int64_t most = max64(1, BLOCK_ROWS / j.group), enough = ceil_div(CHUNKS_PER_THREAD * threads, c->n_kv);
    if (threads > 1) most = max64(min64(most, rows / enough), max64(1, TILE_ROWS / j.group));
    int64_t longest = cut_blocks(&j, most), chunks = j.n_blocks * c->n_kv;
    double work = (double)rows * j.heads * (double)longest * ZL_PAGE * (c->dk + c->dv);
    if (work < SMALL || threads == 1) {
        for (int64_t i = 0; i < chunks; i++) block_chunk(&j, i, 0);
    } else if (longest > 1 && chunks < CHUNKS_PER_THREAD * threads && rows <= SPLIT_ROWS) {
        run_by_spans(&j, longest, threads);
    } else {
        zl_parallel(r->ctx, chunks, block_chunk, &j);
    }
}

const zl_op_def zl_ops_attention[] = {
    {ZL_OP_KV_STORE, "kv_store", check_store, NULL, NULL, run_store},
    {ZL_OP_ATTENTION, "attention", check_attention, check_step_attention, scratch_attention, run_attention},
    {.code = 0},
};
