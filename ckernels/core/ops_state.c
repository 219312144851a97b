/* ops_state.c - the opcodes of state-space layers: the short convolution and the two scans, and where their states stand.
 *
 * A state is a page of a cache like keys and values (see zl_cache): page i of a sequence holds the state after the last of its positions
 * 64 i .. 64 i + 63 that was written. The rows of a sequence in a step go on from the page in the last column of its table, which stays as
 * it is, so that a step can be taken back; what a step writes are the pages of its own positions:
 *
 *      position   ... 70 | 71 ... 127 | 128 ... 191 | 192 ..        reads `last column`: the state after position 70
 *      writes                page 1        page 2       page 3        each the state after its last row
 *
 * A unit of work is one sequence and a block of channels; it takes the rows in order. Units do not touch each other's memory.
 */
#include "core.h"
#include <string.h>

enum {
    CONV_BLOCK = 256,       /* channels of a unit of the convolution                                */
    SCAN_BLOCK = 64,        /* of the selective scan; of Mamba 2 a head                              */
    MAX_TAPS = 16,
    CHUNKS_PER_THREAD = 4,
    SMALL = 1 << 15         /* multiply-adds below which waking other threads costs more than it gives */
};

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* ---- checks ------------------------------------------------------------------------------------------------------------------------ */

/* in[i] is a cache of states that has layer `layer`, dk values of convolution and dv of scan (-1: any) */
static int want_state(const char *name, const zl_tensor *t, int i, int layer, int64_t dk, int64_t dv) {
    int status = zl_want_kind(name, t, i, ZL_CACHE);
    if (status) return status;
    const zl_cache *c = t[i].data;
    if (!c->state) return zl_fail(ZL_E_TYPE, "%s: tensor %d is a cache of keys and values, want states", name, i);
    if (layer < 0 || layer >= c->n_layer) return zl_fail(ZL_E_BOUNDS, "%s: layer %d of a cache class with %d", name, layer, c->n_layer);
    if ((dk >= 0 && c->dk != dk) || (dv >= 0 && c->dv != dv))
        return zl_fail(ZL_E_SHAPE, "%s: a state of %d and %d values, want %lld and %lld (-1: any)", name, c->dk, c->dv, (long long)dk, (long long)dv);
    return ZL_OK;
}

/* Tensor i has the step's rows and so many columns. */
static int want_rows(const char *name, const zl_tensor *t, int i, int64_t cols) {
    int status = zl_want_rows(name, t, i, cols);
    if (!status && t[i].rows_kind != ZL_ROWS_STEP) return zl_fail(ZL_E_SHAPE, "%s: tensor %d does not have the step's rows", name, i);
    return status;
}

/* out[0] lies over none of the n rows that are read while it is written */
static int want_apart(const char *name, const zl_op *op, const zl_tensor *t, int n) {
    const zl_tensor *o = &t[op->out[0]];
    for (int i = 0; i < n; i++) {
        const zl_tensor *x = &t[op->in[i]];
        int over = o->kind == ZL_ARENA ? x->offset < o->offset + o->cols && o->offset < x->offset + x->cols : o->data == x->data;
        if (x->kind == o->kind && over) return zl_fail(ZL_E_ARG, "%s: the result (tensor %d) lies over tensor %d", name, op->out[0], op->in[i]);
    }
    return ZL_OK;
}

/* in: x (T,C), w const (K,C), b const (C)|-1, cache; ip: layer, K */
static int check_conv(const zl_op *op, const zl_tensor *t) {
    const char *name = "short_conv";
    int status = want_rows(name, t, op->in[0], -1);
    if (status) return status;
    int64_t c = t[op->in[0]].cols, taps = op->ip[1];
    if (taps < 2 || taps > MAX_TAPS) return zl_fail(ZL_E_ARG, "%s: %lld taps, want 2 to %d", name, (long long)taps, MAX_TAPS);
    status = zl_want_const(name, t, op->in[1], taps * c);
    if (!status && op->in[2] >= 0) status = zl_want_const(name, t, op->in[2], c);
    if (!status) status = want_state(name, t, op->in[3], op->ip[0], (taps - 1) * c, -1);
    if (!status) status = want_rows(name, t, op->out[0], c);
    return status ? status : want_apart(name, op, t, 1);
}

/* in: x (T,C), dt (T,C), B (T,N), C (T,N), A const (N,C), D const (C), cache; ip: layer, N */
static int check_selective(const zl_op *op, const zl_tensor *t) {
    const char *name = "selective_scan";
    int status = want_rows(name, t, op->in[0], -1);
    if (status) return status;
    int64_t c = t[op->in[0]].cols, n = op->ip[1];
    if (n < 1) return zl_fail(ZL_E_ARG, "%s: %lld states", name, (long long)n);
    status = want_rows(name, t, op->in[1], c);
    if (!status) status = want_rows(name, t, op->in[2], n);
    if (!status) status = want_rows(name, t, op->in[3], n);
    if (!status) status = zl_want_const(name, t, op->in[4], n * c);
    if (!status) status = zl_want_const(name, t, op->in[5], c);
    if (!status) status = want_state(name, t, op->in[6], op->ip[0], -1, n * c);
    if (!status) status = want_rows(name, t, op->out[0], c);
    return status ? status : want_apart(name, op, t, 4);
}

/* in: x|B|C (T, H*P + 2*G*N), dt (T,H), A const (H), D const (H), cache; ip: layer, H, P, N, G */
static int check_dual(const zl_op *op, const zl_tensor *t) {
    const char *name = "dual_scan";
    int64_t heads = op->ip[1], d = op->ip[2], n = op->ip[3], groups = op->ip[4];
    if (heads < 1 || d < 1 || n < 1 || groups < 1 || heads % groups)
        return zl_fail(ZL_E_SHAPE, "%s: %lld heads of %lld channels, %lld states, %lld groups", name, (long long)heads, (long long)d, (long long)n, (long long)groups);
    int status = want_rows(name, t, op->in[1], heads); /* first: it bounds heads and groups, so that no product below overflows */
    if (!status) status = want_rows(name, t, op->in[0], heads * d + 2 * groups * n);
    if (!status) status = zl_want_const(name, t, op->in[2], heads);
    if (!status) status = zl_want_const(name, t, op->in[3], heads);
    if (!status) status = want_state(name, t, op->in[4], op->ip[0], -1, heads * d * n);
    if (!status) status = want_rows(name, t, op->out[0], heads * d);
    return status ? status : want_apart(name, op, t, 2);
}

/* The rows of a sequence follow one another, and the first goes on from a state: none at position 0, else one of the pool. That every row has
 * a page to write, and that no page is written by two sequences or read from, was checked with the step (core/step.c). */
static int check_states(const char *name, const zl_cache *c, const zl_step *s) {
    const int64_t width = s->table_width[c->cls];
    for (int64_t t = 0; t < s->n_rows; t++) {
        const int32_t *table = s->tables[c->cls] + s->seq[t] * width, at = s->cache_pos[t], from = table[width - 1];
        if (t && s->seq[t] == s->seq[t - 1]) {
            if (at != s->cache_pos[t - 1] + 1)
                return zl_fail(ZL_E_ARG, "%s: position %d of sequence %d follows %d", name, at, s->seq[t], s->cache_pos[t - 1]);
        } else if (at ? from < 0 || from >= c->n_pages : from >= 0) {
            return zl_fail(ZL_E_BOUNDS, "%s: sequence %d goes on at position %d from page %d of %d", name, s->seq[t], at, from, c->n_pages);
        }
    }
    return ZL_OK;
}
static int check_step_conv(const zl_op *op, const zl_tensor *t, const zl_step *s) { return check_states("short_conv", t[op->in[3]].data, s); }
static int check_step_selective(const zl_op *op, const zl_tensor *t, const zl_step *s) { return check_states("selective_scan", t[op->in[6]].data, s); }
static int check_step_dual(const zl_op *op, const zl_tensor *t, const zl_step *s) { return check_states("dual_scan", t[op->in[4]].data, s); }

/* ---- a run ------------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const zl_run_state *r;
    const zl_op *op;
    const zl_cache *cache;
    int32_t *first;            /* [n_seq + 1]: the first row of each sequence of the step, and the step's rows */
    int64_t units, per;        /* units in all, and of a chunk: (sequence, block of channels)                 */
    int64_t blocks;
    void (*unit)(const void *job, int64_t first, int64_t end, int64_t block);
} job;

/* Of a page the state of this op's layer: convolution (dk) or scan (dv). NULL for page -1. */
static float *state_of(const job *j, const void *base, int64_t page, int64_t size) {
    return page < 0 ? NULL : (float *)(uintptr_t)base + (page * j->cache->n_layer + j->op->ip[0]) * size;
}

/* Table of the sequence of row t; its last column. */
static const int32_t *table_of(const job *j, int64_t t) {
    return j->r->step->tables[j->cache->cls] + (int64_t)j->r->step->seq[t] * j->r->step->table_width[j->cache->cls];
}
static int64_t from_of(const job *j, int64_t t) { return table_of(j, t)[j->r->step->table_width[j->cache->cls] - 1]; }

/* The rows t .. end-1 that share row t's page: where they end. */
static int64_t page_end(const job *j, int64_t t, int64_t end) { return min64(end, t + ZL_PAGE - j->r->step->cache_pos[t] % ZL_PAGE); }

static void scratch_starts(const zl_ctx *ctx, const zl_op *op, const zl_tensor *t, int64_t rows, int64_t *shared, int64_t *private_) {
    (void)ctx, (void)op, (void)t;
    *shared = (rows + 1) * (int64_t)sizeof(int32_t);
    *private_ = 0;
}

static void run_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    (void)thread;
    for (int64_t u = chunk * j->per; u < min64((chunk + 1) * j->per, j->units); u++) {
        const int64_t s = u / j->blocks;
        j->unit(j, j->first[s], j->first[s + 1], u % j->blocks);
    }
}

/* Every sequence of the step times `blocks` blocks; `work`: multiply-adds of a row. */
static void run_units(job *j, int64_t blocks, int64_t work) {
    const zl_step *s = j->r->step;
    int64_t n = 0, chunks = 1;
    if (!s->n_rows) return;
    j->first = (int32_t *)(void *)j->r->shared;
    for (int32_t t = 0; t < s->n_rows; t++)
        if (!t || s->seq[t] != s->seq[t - 1]) j->first[n++] = t;
    j->first[n] = s->n_rows;
    j->blocks = blocks, j->units = n * blocks;
    if (work * s->n_rows > SMALL) chunks = min64(j->units, (int64_t)CHUNKS_PER_THREAD * zl_ctx_threads(j->r->ctx));
    j->per = ceil_div(j->units, chunks);
    zl_parallel(j->r->ctx, ceil_div(j->units, j->per), run_chunk, j);
}

/* ---- the short convolution ------------------------------------------------------------------------------------------------------------- */

/* The inputs of `taps` rows that end with row t of a sequence that begins at `first`: rows of the step, or of the state before it. */
static void taps_of(const float **in, int64_t taps, int64_t t, int64_t first, const float *x, const float *before, int64_t channels, int64_t at) {
    static const float zeros[CONV_BLOCK];
    for (int64_t k = 0; k < taps; k++) {
        int64_t row = t - taps + 1 + k;
        in[k] = row >= first ? x + row * channels + at : before ? before + (row - first + taps - 1) * channels + at : zeros;
    }
}

/* `before` holds the taps - 1 inputs before `first`, so that it can be asked for up to taps - 1 rows back. */
static void conv_unit(const void *arg, int64_t first, int64_t end, int64_t block) {
    const job *j = arg;
    const zl_cache *cache = j->cache;
    const int64_t c = j->r->tensors[j->op->in[0]].cols, taps = j->op->ip[1], at = block * CONV_BLOCK, n = min64(CONV_BLOCK, c - at);
    const float *x = zl_data_of(j->r, j->op->in[0]), *w = zl_data_of(j->r, j->op->in[1]), *b = zl_data_of(j->r, j->op->in[2]);
    const float *before = state_of(j, cache->k, from_of(j, first), cache->dk), *in[MAX_TAPS];
    float *out = zl_data_of(j->r, j->op->out[0]);
    for (int64_t t = first, stop; t < end; t = stop) {
        stop = page_end(j, t, end);
        for (int64_t row = t; row < stop; row++) {
            taps_of(in, taps, row, first, x, before, c, at);
            j->r->k->short_conv(n, taps, in, w + at, c, b ? b + at : NULL, out + row * c + at);
        }
        /* the state is the last taps - 1 inputs: in[1..] of the last row */
        float *state = state_of(j, cache->k, table_of(j, t)[j->r->step->cache_pos[t] / ZL_PAGE], cache->dk);
        for (int64_t k = 1; k < taps; k++) memcpy(state + (k - 1) * c + at, in[k], (size_t)n * sizeof *state);
    }
}

static void run_conv(zl_run_state *r, const zl_op *op) {
    job j = {.r = r, .op = op, .cache = r->tensors[op->in[3]].data, .unit = conv_unit};
    const int64_t c = r->tensors[op->in[0]].cols;
    run_units(&j, ceil_div(c, CONV_BLOCK), c * (op->ip[1] + 8));
}

/* ---- scans ------------------------------------------------------------------------------------------------------------------------------ */

/* The rows of a sequence page by page. `s` is set for row 0 of the step, `state`: where in a page's state its channels begin. */
static void scan_pages(const job *j, zl_scan s, int64_t first, int64_t end, int64_t state, void (*kernel)(const zl_scan *)) {
    const float *from = state_of(j, j->cache->v, from_of(j, first), j->cache->dv);
    for (int64_t t = first, stop; t < end; t = stop) {
        stop = page_end(j, t, end);
        float *h = state_of(j, j->cache->v, table_of(j, t)[j->r->step->cache_pos[t] / ZL_PAGE], j->cache->dv);
        zl_scan part = s;
        part.rows = stop - t;
        part.x += t * s.x_row, part.dt += t * s.dt_row, part.b += t * s.bc_row, part.c += t * s.bc_row, part.out += t * s.out_row;
        part.from = from ? from + state : NULL, part.h = h + state;
        kernel(&part);
        from = h;
    }
}

static void selective_unit(const void *arg, int64_t first, int64_t end, int64_t block) {
    const job *j = arg;
    const int32_t *in = j->op->in;
    const int64_t c = j->r->tensors[in[0]].cols, n = j->op->ip[1], at = block * SCAN_BLOCK;
    zl_scan s = {.n = min64(SCAN_BLOCK, c - at), .states = n, .stride = c, .x_row = c, .dt_row = c, .bc_row = n, .out_row = c,
                 .x = zl_data_of(j->r, in[0]) + at, .dt = zl_data_of(j->r, in[1]) + at, .b = zl_data_of(j->r, in[2]), .c = zl_data_of(j->r, in[3]),
                 .a = zl_data_of(j->r, in[4]) + at, .d = zl_data_of(j->r, in[5]) + at, .out = zl_data_of(j->r, j->op->out[0]) + at};
    scan_pages(j, s, first, end, at, j->r->k->selective_scan);
}

static void run_selective(zl_run_state *r, const zl_op *op) {
    job j = {.r = r, .op = op, .cache = r->tensors[op->in[6]].data, .unit = selective_unit};
    const int64_t c = r->tensors[op->in[0]].cols;
    run_units(&j, ceil_div(c, SCAN_BLOCK), c * op->ip[1] * 12);
}

/* A state is [H][N][P]: the channels of a head are its lanes. */
static void dual_unit(const void *arg, int64_t first, int64_t end, int64_t head) {
    const job *j = arg;
    const int32_t *in = j->op->in;
    const int64_t heads = j->op->ip[1], d = j->op->ip[2], n = j->op->ip[3], groups = j->op->ip[4], group = head / (heads / groups);
    const int64_t row = heads * d + 2 * groups * n;
    const float *x = zl_data_of(j->r, in[0]);
    zl_scan s = {.n = d, .states = n, .stride = d, .x_row = row, .dt_row = heads, .bc_row = row, .out_row = heads * d,
                 .x = x + head * d, .dt = zl_data_of(j->r, in[1]) + head, .b = x + heads * d + group * n, .c = x + heads * d + (groups + group) * n,
                 .a = zl_data_of(j->r, in[2]) + head, .d = zl_data_of(j->r, in[3]) + head, .out = zl_data_of(j->r, j->op->out[0]) + head * d};
    scan_pages(j, s, first, end, head * n * d, j->r->k->dual_scan);
}

static void run_dual(zl_run_state *r, const zl_op *op) {
    job j = {.r = r, .op = op, .cache = r->tensors[op->in[4]].data, .unit = dual_unit};
    run_units(&j, op->ip[1], (int64_t)op->ip[1] * op->ip[2] * op->ip[3] * 3);
}

const zl_op_def zl_ops_state[] = {
    {ZL_OP_SHORT_CONV, "short_conv", check_conv, check_step_conv, scratch_starts, run_conv},
    {ZL_OP_SELECTIVE_SCAN, "selective_scan", check_selective, check_step_selective, scratch_starts, run_selective},
    {ZL_OP_DUAL_SCAN, "dual_scan", check_dual, check_step_dual, scratch_starts, run_dual},
    {0, NULL, NULL, NULL, NULL, NULL},
};
