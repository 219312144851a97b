/* ops_rows.c - the row-wise opcodes: norms, softmax, rotary embedding, activations, sums, and the choosing of rows and of top-k.
 *
 * For each opcode: a check (all that can be known without a step), where needed a check of the step, and a run that cuts the work
 * into chunks for zl_parallel. A chunk is a range of rows, of groups, or of elements; where it is cut changes no bit of the result.
 * Work below SMALL elements is one chunk, which the caller does alone without any synchronisation.
 */
#include "core.h"
#include "../kernels/rows_top_k.h"
#include <math.h>

enum { SMALL = 16384, CHUNKS_PER_THREAD = 4, LINE = 16 /* floats in a cache line */, TOP_K_CHUNK = 16384, TOP_K_MAX = 4096 };

/* ---- cutting ------------------------------------------------------------------------------------------------------------- */

/* One op being run, as its chunks see it. */
typedef struct {
    const zl_run_state *r;
    const zl_op *op;
    const float *x, *y, *z;
    float *out;
    int64_t n, m;     /* units of work (rows, groups or elements), and elements per unit */
    int64_t per;      /* units per chunk                                                */
} job;

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* Runs fn over j->n units of j->m elements each, `cost` simple operations per element. */
static void cut(job *j, int64_t cost, zl_chunk_fn *fn) {
    int64_t chunks = 1, work = j->n * j->m * cost;
    if (j->n == 0 || j->m == 0) return;
    if (work >= SMALL) chunks = min64(work / (SMALL / 2), (int64_t)CHUNKS_PER_THREAD * zl_ctx_threads(j->r->ctx));
    j->per = (j->n + chunks - 1) / chunks;
    if (j->m == 1) j->per = (j->per + LINE - 1) / LINE * LINE; /* no two chunks write to one cache line */
    zl_parallel(j->r->ctx, (j->n + j->per - 1) / j->per, fn, j);
}

/* chunk number -> its units [*lo, *hi) */
static inline void range(const job *j, int64_t chunk, int64_t *lo, int64_t *hi) {
    *lo = chunk * j->per;
    *hi = min64(*lo + j->per, j->n);
}

static job job_of(const zl_run_state *r, const zl_op *op) {
    job j = {r, op, zl_data_of(r, op->in[0]) /* of a table: the weight, which is not read here */, NULL, NULL, zl_data_of(r, op->out[0]), zl_rows_of(r, op->out[0]),
             r->tensors[op->out[0]].cols, 0};
    return j;
}

/* the same, element by element */
static job flat_job(const zl_run_state *r, const zl_op *op) {
    job j = job_of(r, op);
    j.n *= j.m;
    j.m = 1;
    return j;
}

/* ---- checks that several ops share ------------------------------------------------------------------------------------------ */

/* tensor i is (T, cols) with as many rows as tensor `like` */
static int want_like(const char *name, const zl_tensor *t, int i, int like, int64_t cols) {
    int status = zl_want_rows(name, t, i, cols);
    if (status == ZL_OK && t[i].rows_kind != t[like].rows_kind)
        return zl_fail(ZL_E_SHAPE, "%s: tensors %d and %d count their rows differently (%d, %d)", name, like, i, t[like].rows_kind,
                       t[i].rows_kind);
    return status;
}

/* in[0] is (T, any), out[0] the same shape */
static int want_same(const char *name, const zl_op *op, const zl_tensor *t) {
    int status = zl_want_rows(name, t, op->in[0], -1);
    return status ? status : want_like(name, t, op->out[0], op->in[0], t[op->in[0]].cols);
}

static int want_unary(const char *name, int fn) {
    if (fn >= ZL_RELU && fn <= ZL_RELU_SQUARED) return ZL_OK;
    return zl_fail(ZL_E_ARG, "%s: unknown activation %d", name, fn);
}

/* ---- norms -------------------------------------------------------------------------------------------------------------------- */

static int check_norm(const char *name, int n_const, const zl_op *op, const zl_tensor *t) {
    int status = want_same(name, op, t);
    if (status) return status;
    int64_t cols = t[op->in[0]].cols, m = op->ip[0];
    if (m < 1 || cols % m) return zl_fail(ZL_E_SHAPE, "%s: %lld columns do not divide into groups of %lld", name, (long long)cols, (long long)m);
    const int64_t own = op->ip[1] == 0 ? 1 : op->ip[1]; /* groups with a weight of their own */
    if (own != 1 && (n_const > 1 || own != cols / m)) return zl_fail(ZL_E_SHAPE, "%s: weights for %lld groups, there are %lld", name, (long long)own, (long long)(cols / m));
    if (!(op->fp[0] >= 0.0f) || isinf(op->fp[0])) return zl_fail(ZL_E_ARG, "%s: eps is %g, want finite and >= 0", name, (double)op->fp[0]);
    for (int i = 1; i <= n_const && status == ZL_OK; i++)
        if (op->in[i] >= 0) status = zl_want_const(name, t, op->in[i], m * own);
    return status;
}
static int check_rms_norm(const zl_op *op, const zl_tensor *t) { return check_norm("rms_norm", 1, op, t); }
static int check_layer_norm(const zl_op *op, const zl_tensor *t) { return check_norm("layer_norm", 2, op, t); }

static void norm_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    int64_t lo, hi;
    (void)thread;
    range(j, chunk, &lo, &hi);
    const float *x = j->x + lo * j->m;
    float *out = j->out + lo * j->m;
    const int64_t own = j->op->code == ZL_OP_RMS_NORM && j->y ? j->op->ip[1] : 0;
    if (own > 1)
        for (int64_t i = lo; i < hi; i++, x += j->m, out += j->m) j->r->k->rms_norm(1, j->m, x, j->y + i % own * j->m, j->op->fp[0], out);
    else if (j->op->code == ZL_OP_RMS_NORM) j->r->k->rms_norm(hi - lo, j->m, x, j->y, j->op->fp[0], out);
    else j->r->k->layer_norm(hi - lo, j->m, x, j->y, j->z, j->op->fp[0], out);
}
static void run_norm(zl_run_state *r, const zl_op *op) {
    job j = flat_job(r, op);
    j.m = op->ip[0];
    j.n /= j.m; /* groups */
    j.y = zl_data_of(r, op->in[1]);
    j.z = op->code == ZL_OP_LAYER_NORM ? zl_data_of(r, op->in[2]) : NULL;
    cut(&j, 2, norm_chunk);
}

/* ---- softmax -------------------------------------------------------------------------------------------------------------------- */

static int check_softmax(const zl_op *op, const zl_tensor *t) { return want_same("softmax", op, t); }

static void softmax_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    int64_t lo, hi;
    (void)thread;
    range(j, chunk, &lo, &hi);
    j->r->k->softmax(hi - lo, j->m, j->x + lo * j->m, j->op->fp[0], j->out + lo * j->m);
}
static void run_softmax(zl_run_state *r, const zl_op *op) {
    job j = job_of(r, op);
    cut(&j, 6, softmax_chunk);
}

/* ---- rotary embedding -------------------------------------------------------------------------------------------------------------- */

static int check_rope(const zl_op *op, const zl_tensor *t) {
    int status = want_same("rope", op, t);
    if (status) return status;
    int64_t heads = op->ip[0], d = op->ip[1], rot = op->ip[2];
    if (heads < 1 || d < 1 || heads * d != t[op->in[0]].cols)
        return zl_fail(ZL_E_SHAPE, "rope: %lld heads of %lld channels are not %lld columns", (long long)heads, (long long)d,
                       (long long)t[op->in[0]].cols);
    if (rot < 2 || rot > d || rot % 2)
        return zl_fail(ZL_E_SHAPE, "rope: %lld rotated channels, want an even number from 2 to %lld", (long long)rot, (long long)d);
    if (op->ip[3] != 0 && op->ip[3] != 1) return zl_fail(ZL_E_ARG, "rope: mode is %d, want 0 (interleaved) or 1 (half-split)", op->ip[3]);
    if (op->ip[4] < 0) return zl_fail(ZL_E_ARG, "rope: position plane %d", op->ip[4]);
    return zl_want_const("rope", t, op->in[1], rot / 2);
}
static int check_step_rope(const zl_op *op, const zl_tensor *t, const zl_step *s) {
    if (t[op->in[0]].rows_kind != ZL_ROWS_STEP) return zl_fail(ZL_E_SHAPE, "rope: positions belong to the rows of the step");
    return zl_want_plane("rope", op->ip[4], s);
}
static void scratch_rope(const zl_ctx *ctx, const zl_op *op, const zl_tensor *t, int64_t rows, int64_t *shared, int64_t *private_) {
    (void)ctx, (void)t, (void)rows;
    *shared = 0;
    *private_ = (int64_t)op->ip[2] * 2 * (int64_t)sizeof(float); /* the row's table of cosines and sines */
}

static void rope_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    const int32_t *ip = j->op->ip, *position = j->r->step->positions + (int64_t)ip[4] * j->r->step->n_rows;
    float *table = (float *)(void *)j->r->private_[thread];
    int64_t lo, hi, half = ip[2] / 2;
    range(j, chunk, &lo, &hi);
    for (int64_t t = lo; t < hi; t++) {
        j->r->k->rope_table(half, position[t], j->y, j->op->fp[0], ip[3], table);
        j->r->k->rope(ip[0], ip[1], half, ip[3], table, j->x + t * j->m, j->out + t * j->m);
    }
}
static void run_rope(zl_run_state *r, const zl_op *op) {
    job j = job_of(r, op);
    j.y = zl_data_of(r, op->in[1]);
    cut(&j, 3, rope_chunk);
}

/* ---- element by element ---------------------------------------------------------------------------------------------------------- */

static int check_unary(const zl_op *op, const zl_tensor *t) {
    int status = want_unary("unary", op->ip[0]);
    return status ? status : want_same("unary", op, t);
}
static int check_two(const char *name, const zl_op *op, const zl_tensor *t) {
    int status = want_same(name, op, t);
    return status ? status : want_like(name, t, op->in[1], op->in[0], t[op->in[0]].cols);
}
static int check_glu(const zl_op *op, const zl_tensor *t) {
    int status = want_unary("glu", op->ip[0]);
    return status ? status : check_two("glu", op, t);
}
/* in[1] is a constant: the same for every row */
static int one_row(const zl_op *op, const zl_tensor *t) { return op->in[1] >= 0 && t[op->in[1]].kind == ZL_CONST; }
static int check_sum(const char *name, const zl_op *op, const zl_tensor *t) {
    if (!one_row(op, t)) return check_two(name, op, t);
    int status = want_same(name, op, t);
    return status ? status : zl_want_const(name, t, op->in[1], t[op->in[0]].cols);
}
static int check_add(const zl_op *op, const zl_tensor *t) { return check_sum("add", op, t); }
static int check_mul(const zl_op *op, const zl_tensor *t) { return check_sum("mul", op, t); }
static int check_scale(const zl_op *op, const zl_tensor *t) { return want_same("scale", op, t); }
static int check_softcap(const zl_op *op, const zl_tensor *t) {
    if (!(op->fp[0] > 0.0f) || isinf(op->fp[0])) return zl_fail(ZL_E_ARG, "softcap: cap is %g, want finite and > 0", (double)op->fp[0]);
    return want_same("softcap", op, t);
}

static void element_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    const zl_kernels *k = j->r->k;
    const zl_op *op = j->op;
    int64_t lo, hi;
    (void)thread;
    range(j, chunk, &lo, &hi);
    int64_t n = hi - lo;
    const float *x = j->x + lo, *y = j->y ? j->y + lo : NULL;
    float *out = j->out + lo;
    switch (op->code) {
    case ZL_OP_UNARY: k->unary(op->ip[0], n, x, out); break;
    case ZL_OP_GLU: k->glu(op->ip[0], n, x, y, out); break;
    case ZL_OP_ADD: k->add(n, x, y, out); break;
    case ZL_OP_MUL: k->mul(n, x, y, out); break;
    case ZL_OP_SCALE: k->scale(n, x, op->fp[0], out); break;
    default: k->softcap(n, x, op->fp[0], out); break;
    }
}
static void one_row_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    int64_t lo, hi;
    (void)thread;
    range(j, chunk, &lo, &hi);
    for (int64_t t = lo; t < hi; t++) {
        if (j->op->code == ZL_OP_ADD) j->r->k->add(j->m, j->x + t * j->m, j->y, j->out + t * j->m);
        else j->r->k->mul(j->m, j->x + t * j->m, j->y, j->out + t * j->m);
    }
}
/* Out of line: an element-wise op of one value is some 200 instructions in all, and this one is rare. */
static __attribute__((noinline)) void run_one_row(zl_run_state *r, const zl_op *op) {
    job j = job_of(r, op);
    j.y = zl_data_of(r, op->in[1]);
    cut(&j, 1, one_row_chunk);
}
static void run_elements(zl_run_state *r, const zl_op *op) {
    job j = flat_job(r, op);
    int two = op->code == ZL_OP_GLU || op->code == ZL_OP_ADD || op->code == ZL_OP_MUL;
    int exponentials = op->code == ZL_OP_UNARY || op->code == ZL_OP_GLU || op->code == ZL_OP_SOFTCAP;
    if (two) j.y = zl_data_of(r, op->in[1]);
    cut(&j, exponentials ? 4 : 1, element_chunk);
}
static void run_sum(zl_run_state *r, const zl_op *op) {
    if (r->tensors[op->in[1]].kind == ZL_CONST) run_one_row(r, op);
    else run_elements(r, op);
}

/* ---- embedding: rows of a weight, chosen by token or by position ------------------------------------------------------------------ */

static int check_table(const char *name, const zl_op *op, const zl_tensor *t) {
    int status = zl_want_matrix(name, t, op->in[0]);
    if (status) return status;
    status = zl_want_rows(name, t, op->out[0], ((const zl_weight *)t[op->in[0]].data)->cols);
    if (status == ZL_OK && t[op->out[0]].rows_kind != ZL_ROWS_STEP)
        return zl_fail(ZL_E_SHAPE, "%s: tokens and positions belong to the rows of the step", name);
    return status;
}
static int check_embed(const zl_op *op, const zl_tensor *t) { return check_table("embed", op, t); }
static int check_lookup(const zl_op *op, const zl_tensor *t) {
    if (op->ip[0] < 0) return zl_fail(ZL_E_ARG, "lookup: position plane %d", op->ip[0]);
    return check_table("lookup", op, t);
}
static int check_step_embed(const zl_op *op, const zl_tensor *t, const zl_step *s) {
    const zl_weight *w = t[op->in[0]].data;
    if (s->n_rows > 0 && !s->tokens) return zl_fail(ZL_E_ARG, "embed: the step has no tokens");
    for (int i = 0; i < s->n_rows; i++) {
        if (s->tokens[i] < -1 || s->tokens[i] >= w->rows)
            return zl_fail(ZL_E_BOUNDS, "embed: token %d of the step is %d, the vocabulary has %lld", i, s->tokens[i], (long long)w->rows);
        if (s->tokens[i] < 0 && (!s->inputs || s->input_cols != w->cols))
            return zl_fail(ZL_E_SHAPE, "embed: row %d has no token and needs an input of %lld columns, the step has %d", i,
                           (long long)w->cols, s->inputs ? s->input_cols : 0);
    }
    return ZL_OK;
}
static int check_step_lookup(const zl_op *op, const zl_tensor *t, const zl_step *s) {
    const zl_weight *w = t[op->in[0]].data;
    int status = zl_want_plane("lookup", op->ip[0], s);
    if (status) return status;
    for (int64_t i = 0; i < s->n_rows; i++) {
        int64_t row = (int64_t)s->positions[(int64_t)op->ip[0] * s->n_rows + i] + op->ip[1];
        if (row < 0 || row >= w->rows)
            return zl_fail(ZL_E_BOUNDS, "lookup: row %lld of the step wants row %lld, the table has %lld", (long long)i, (long long)row,
                           (long long)w->rows);
    }
    return ZL_OK;
}
/* The row of the table that row i of the step wants; -1: that of the step's inputs. */
static inline int64_t wanted_row(const job *j, int64_t i) {
    const zl_step *s = j->r->step;
    if (j->op->code == ZL_OP_EMBED) return s->tokens[i];
    return (int64_t)s->positions[(int64_t)j->op->ip[0] * s->n_rows + i] + j->op->ip[1];
}
/* A row that is looked up in a mapped file brings the 64 KiB around it into memory: a long prompt would bring most of the file. So after every
 * SOME rows the pages are let go where that was asked for; they stay in the system's cache. Fewer rows stay: decoding comes back to them. */
static void table_chunk(void *arg, int64_t chunk, int thread) {
    enum { SOME = 16 };
    const job *j = arg;
    const zl_step *s = j->r->step;
    const zl_weight *w = j->r->tensors[j->op->in[0]].data;
    const float factor = j->op->code == ZL_OP_EMBED ? j->op->fp[0] : 1.0f;
    int64_t lo, hi;
    (void)thread;
    int64_t kept = 0;
    range(j, chunk, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        float *out = j->out + i * j->m;
        const int64_t row = wanted_row(j, i);
        if (row < 0) {
            memmove(out, s->inputs + i * j->m, (size_t)j->m * sizeof(float));
            continue;
        }
        zl_weight_row(w, row, out);
        if (factor != 1.0f) j->r->k->scale(j->m, out, factor, out);
        if (w->let_go && (++kept == SOME || (i == hi - 1 && j->n >= SOME))) zl_guard_let_go(w->data, w->rows * w->row_bytes), kept = 0;
    }
}
static void run_table(zl_run_state *r, const zl_op *op) {
    job j = job_of(r, op);
    cut(&j, 2, table_chunk);
}

/* ---- choosing rows ----------------------------------------------------------------------------------------------------------------- */

static int check_gather(const zl_op *op, const zl_tensor *t) {
    int status = zl_want_rows("gather", t, op->in[0], -1);
    if (status == ZL_OK) status = zl_want_rows("gather", t, op->out[0], t[op->in[0]].cols);
    if (status) return status;
    if (op->in[0] == op->out[0]) return zl_fail(ZL_E_ARG, "gather: input and output are the same tensor %d", op->in[0]);
    if (t[op->in[0]].rows_kind != ZL_ROWS_STEP || t[op->out[0]].rows_kind != ZL_ROWS_OUT)
        return zl_fail(ZL_E_SHAPE, "gather: goes from the rows of the step to the rows wanted");
    return ZL_OK;
}
static int check_step_gather(const zl_op *op, const zl_tensor *t, const zl_step *s) {
    (void)op, (void)t;
    if (s->n_out > 0 && !s->out_rows) return zl_fail(ZL_E_ARG, "gather: the step has no out_rows");
    for (int i = 0; i < s->n_out; i++)
        if (s->out_rows[i] < 0 || s->out_rows[i] >= s->n_rows)
            return zl_fail(ZL_E_BOUNDS, "gather: out_rows[%d] is %d, the step has %d rows", i, s->out_rows[i], s->n_rows);
    return ZL_OK;
}
static void gather_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    int64_t lo, hi;
    (void)thread;
    range(j, chunk, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) /* a program may lay its tensors over each other: nonsense then, but no undefined behaviour */
        memmove(j->out + i * j->m, j->x + j->r->step->out_rows[i] * j->m, (size_t)j->m * sizeof(float));
}
static void run_gather(zl_run_state *r, const zl_op *op) {
    job j = job_of(r, op);
    cut(&j, 1, gather_chunk);
}

/* ---- top-k ------------------------------------------------------------------------------------------------------------------------
 * Many rows: one chunk per row, its heap in the thread's scratch. Few rows of a large vocabulary: each row is cut, every chunk leaves
 * its heap in shared scratch, and the caller merges them. The order of candidates is total, so both give the same list.
 */
static int check_top_k(const zl_op *op, const zl_tensor *t) {
    int status = zl_want_rows("top_k", t, op->in[0], -1);
    int64_t k = op->ip[0];
    if (status) return status;
    if (k < 1 || k > TOP_K_MAX || k > t[op->in[0]].cols || t[op->in[0]].cols > INT32_MAX)
        return zl_fail(ZL_E_ARG, "top_k: k is %lld, want 1 to %d and at most the %lld columns", (long long)k, TOP_K_MAX,
                       (long long)t[op->in[0]].cols);
    for (int i = 0; i < 2 && status == ZL_OK; i++) status = want_like("top_k", t, op->out[i], op->in[0], k);
    if (status == ZL_OK && (op->out[0] == op->out[1] || op->out[0] == op->in[0] || op->out[1] == op->in[0]))
        return zl_fail(ZL_E_ARG, "top_k: input, values and ids must be three tensors");
    return status;
}
static int check_step_top_k(const zl_op *op, const zl_tensor *t, const zl_step *s) {
    if (s->mask && t[op->in[0]].rows_kind != ZL_ROWS_OUT && s->n_rows != s->n_out)
        return zl_fail(ZL_E_SHAPE, "top_k: masks are for %d wanted rows, the op has %d", s->n_out, s->n_rows);
    return ZL_OK;
}
static int64_t top_k_pieces_max(const zl_ctx *ctx) { return 2 * (int64_t)zl_ctx_threads(ctx); }

static void scratch_top_k(const zl_ctx *ctx, const zl_op *op, const zl_tensor *t, int64_t rows, int64_t *shared, int64_t *private_) {
    (void)t, (void)rows;
    *private_ = (int64_t)op->ip[0] * (int64_t)sizeof(uint64_t);
    *shared = *private_ * top_k_pieces_max(ctx) * zl_ctx_threads(ctx);
}

static void top_k_write(const job *j, int64_t row, uint64_t *heap) {
    int64_t k = j->op->ip[0];
    const float *x = j->x + row * j->m;
    const uint32_t *mask = j->r->step->mask ? j->r->step->mask[row] : NULL;
    float *value = j->out + row * k;
    int32_t *ids = (int32_t *)(void *)zl_data_of(j->r, j->op->out[1]) + row * k;
    zl_top_sort(heap, k);
    for (int64_t i = 0; i < k; i++) {
        int32_t id = zl_top_id_of(heap[i]);
        ids[i] = id;
        value[i] = mask && !(mask[id >> 5] >> (id & 31) & 1u) ? -INFINITY : x[id];
    }
}

static void top_k_row(void *arg, int64_t row, int thread) {
    const job *j = arg;
    uint64_t *heap = (uint64_t *)(void *)j->r->private_[thread];
    j->r->k->top_k(j->x + row * j->m, j->r->step->mask ? j->r->step->mask[row] : NULL, 0, j->m, j->op->ip[0], heap);
    top_k_write(j, row, heap);
}

/* j->per = pieces of a row, j->n = elements per piece */
static void top_k_piece(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    int64_t row = chunk / j->per, begin = chunk % j->per * j->n, end = min64(begin + j->n, j->m), k = j->op->ip[0];
    (void)thread;
    j->r->k->top_k(j->x + row * j->m, j->r->step->mask ? j->r->step->mask[row] : NULL, begin, end, k, (uint64_t *)(void *)j->r->shared + chunk * k);
}

static void run_top_k(zl_run_state *r, const zl_op *op) {
    if (r->step->skip_top_k) return;
    job j = job_of(r, op);
    int64_t rows = j.n, k = op->ip[0], threads = zl_ctx_threads(r->ctx);
    j.m = r->tensors[op->in[0]].cols;
    int64_t pieces = min64(j.m / TOP_K_CHUNK, top_k_pieces_max(r->ctx));
    if (pieces < 2 || rows >= threads || threads == 1) {
        zl_parallel(r->ctx, rows, top_k_row, &j);
        return;
    }
    j.n = ((j.m + pieces - 1) / pieces + 31) / 32 * 32; /* a piece starts at a word of the mask */
    j.per = (j.m + j.n - 1) / j.n;
    zl_parallel(r->ctx, rows * j.per, top_k_piece, &j);
    for (int64_t row = 0; row < rows; row++) {
        uint64_t *heap = (uint64_t *)(void *)r->shared + row * j.per * k;
        for (int64_t p = 1; p < j.per; p++) /* all pieces but the last have at least 16,384 elements: the first holds k */
            for (int64_t i = 0, n = min64(k, min64((p + 1) * j.n, j.m) - p * j.n); i < n; i++)
                if (heap[p * k + i] > heap[0]) zl_top_sink(heap, k, 0, heap[p * k + i]);
        top_k_write(&j, row, heap);
    }
}

/* ---- the table --------------------------------------------------------------------------------------------------------------------- */

const zl_op_def zl_ops_rows[] = {
    {ZL_OP_EMBED, "embed", check_embed, check_step_embed, NULL, run_table},
    {ZL_OP_LOOKUP, "lookup", check_lookup, check_step_lookup, NULL, run_table},
    {ZL_OP_RMS_NORM, "rms_norm", check_rms_norm, NULL, NULL, run_norm},
    {ZL_OP_LAYER_NORM, "layer_norm", check_layer_norm, NULL, NULL, run_norm},
    {ZL_OP_SOFTMAX, "softmax", check_softmax, NULL, NULL, run_softmax},
    {ZL_OP_ROPE, "rope", check_rope, check_step_rope, scratch_rope, run_rope},
    {ZL_OP_UNARY, "unary", check_unary, NULL, NULL, run_elements},
    {ZL_OP_GLU, "glu", check_glu, NULL, NULL, run_elements},
    {ZL_OP_ADD, "add", check_add, NULL, NULL, run_sum},
    {ZL_OP_MUL, "mul", check_mul, NULL, NULL, run_sum},
    {ZL_OP_SCALE, "scale", check_scale, NULL, NULL, run_elements},
    {ZL_OP_SOFTCAP, "softcap", check_softcap, NULL, NULL, run_elements},
    {ZL_OP_GATHER, "gather", check_gather, check_step_gather, NULL, run_gather},
    {ZL_OP_TOP_K, "top_k", check_top_k, check_step_top_k, scratch_top_k, run_top_k},
    {0, NULL, NULL, NULL, NULL, NULL},
};
