/* ops_linear.c - the opcode `linear`: up to three weights that share x, with bias and residual; its cutting into chunks.
 *
 *      T <= 4       one stage. Each thread makes the form of x that kernels read for itself when it claims its first chunk.
 *      more         two stages: that form of x (quantised, or interleaved for float weights) is made by all, then multiplied.
 *
 * A chunk is a run of panels by a block of rows of x: all rows where they are few; otherwise as many as stay in a core's L2 cache while
 * one pair of panels after the other passes over them. Every cutting gives the same bits (kernels/linear.h). Chunks of one thread's
 * share follow each other in memory. With a BLAS library in the context a chunk of a float weight by many rows is a slab (blas.h), whose
 * bits are the library's.
 *
 * Gated (ip[1] is an activation): the two weights are gate and up, a chunk makes the same outputs of both and then act(gate) * up of them
 * while they are in the cache nearest to it: the bits of two products and a glu.
 */
#include "blas.h"
#include "core.h"
#include <string.h>

enum { WEIGHTS = 3, PRIVATE_ROWS = 4, LINE = 64 };
enum { ROUND = 24 /* a multiple of every variant's groups, of both forms */ };
enum { BLOCKS = 1, COLUMNS = 2, PAIRS = 4, LONGS = 8 }; /* the forms of x: quantised; interleaved floats; pairs of bf16; quantised for long formats */

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t lines(int64_t bytes) { return ceil_div(bytes, LINE) * LINE; }

static int form_of(const zl_weight *w) { return w->form == ZL_PAIRS ? PAIRS : zl_weight_is_float(w) ? COLUMNS : zl_is_long(w->type) ? LONGS : BLOCKS; }
static int n_weights(const zl_op *op) { return op->ip[0]; }
static const zl_weight *weight_of(const zl_op *op, const zl_tensor *t, int i) { return t[op->in[1 + 3 * i]].data; }

/* ---- what can be known before a step -------------------------------------------------------------------------------------------- */

static int check_linear(const zl_op *op, const zl_tensor *t) {
    int status = zl_want_rows("linear", t, op->in[0], -1);
    if (status) return status;
    const int n = op->ip[0];
    if (n < 1 || n > WEIGHTS) return zl_fail(ZL_E_ARG, "linear: %d weights, 1 to %d are possible", n, WEIGHTS);
    const zl_tensor *x = &t[op->in[0]];
    for (int i = 0; i < n; i++) {
        const int bias = op->in[2 + 3 * i], residual = op->in[3 + 3 * i];
        if ((status = zl_want_matrix("linear", t, op->in[1 + 3 * i]))) return status;
        const zl_weight *w = weight_of(op, t, i);
        if (!zl_format_of(w->type)->multiplied) return zl_fail(ZL_E_TYPE, "linear: no kernel multiplies %s, weight %d", zl_format_of(w->type)->name, i);
        if (w->cols != x->cols)
            return zl_fail(ZL_E_SHAPE, "linear: weight %d is (%lld, %lld), x has %lld columns", i, (long long)w->rows, (long long)w->cols,
                           (long long)x->cols);
        if ((status = zl_want_rows("linear", t, op->out[i], w->rows))) return status;
        if (bias >= 0 && (status = zl_want_const("linear", t, bias, w->rows))) return status;
        if (residual >= 0 && (status = zl_want_rows("linear", t, residual, w->rows))) return status;
        if (t[op->out[i]].rows_kind != x->rows_kind || (residual >= 0 && t[residual].rows_kind != x->rows_kind))
            return zl_fail(ZL_E_SHAPE, "linear: x, the output and the residual of weight %d have different kinds of rows", i);
        if (op->out[i] == op->in[0]) return zl_fail(ZL_E_ARG, "linear: output %d is x itself", i);
        for (int j = 0; j < i; j++)
            if (op->out[i] == op->out[j]) return zl_fail(ZL_E_ARG, "linear: outputs %d and %d are the same tensor", j, i);
        for (int j = 0; j < n; j++)
            if (j != i && residual >= 0 && residual == op->out[j]) return zl_fail(ZL_E_ARG, "linear: residual %d is output %d", i, j);
    }
    if (op->ip[1] == 0) return ZL_OK;
    if (op->ip[1] < ZL_RELU || op->ip[1] > ZL_RELU_SQUARED) return zl_fail(ZL_E_ARG, "linear: unknown activation %d", op->ip[1]);
    if (n != 2 || op->in[3] >= 0 || op->in[6] >= 0)
        return zl_fail(ZL_E_ARG, "linear: an activation joins two weights without residuals, there are %d, residuals %d and %d", n, op->in[3], op->in[6]);
    if (weight_of(op, t, 0)->rows != weight_of(op, t, 1)->rows)
        return zl_fail(ZL_E_SHAPE, "linear: gate has %lld rows, up %lld", (long long)weight_of(op, t, 0)->rows, (long long)weight_of(op, t, 1)->rows);
    return ZL_OK;
}

/* Bytes of `rows` quantised rows of k columns. */
static int64_t activation_bytes(int64_t rows, int64_t k) { return lines(rows * ceil_div(k, 32) * ZL_X_WORDS * 4); }

/* Bytes of `rows` rows of k columns as floats in groups. */
static int64_t column_bytes(int64_t rows, int64_t k) { return lines(rows * k * 4); }
static int64_t pair_bytes(int64_t rows, int64_t k) { return lines(rows * ceil_div(k, 2) * 4); }
/* Bytes of the forms that are read, which stand one after the other. */
static int64_t forms_bytes(int forms, int64_t rows, int64_t k) {
    return (forms & BLOCKS ? activation_bytes(rows, k) : 0) + (forms & LONGS ? activation_bytes(rows, k) : 0) +
           (forms & COLUMNS ? column_bytes(rows, k) : 0) + (forms & PAIRS ? pair_bytes(rows, k) : 0);
}

static void scratch_linear(const zl_ctx *ctx, const zl_op *op, const zl_tensor *t, int64_t rows, int64_t *shared, int64_t *private_) {
    const int64_t k = t[op->in[0]].cols;
    int64_t scratch = 0;
    int forms = 0;
    for (int i = 0; i < n_weights(op); i++) {
        const zl_weight *w = weight_of(op, t, i);
        scratch = max64(scratch, zl_weight_scratch(w));
        forms |= form_of(w);
        if (zl_weight_is_float(w) && rows > ZL_FEW) scratch = max64(scratch, zl_slab_scratch(ctx, w, rows));
    }
    *shared = lines(zl_ctx_threads(ctx)) + (rows > PRIVATE_ROWS ? forms_bytes(forms, rows, k) : 0);
    *private_ = forms_bytes(forms, PRIVATE_ROWS, k) + scratch;
}

/* ---- a run ------------------------------------------------------------------------------------------------------------------------ */

typedef struct {
    const zl_run_state *r;
    zl_activation x;           /* its forms: of all threads, or NULL where each has its own     */
    int forms;                 /* which of them are read                                        */
    int n;                     /* weights                                                       */
    int act;                   /* gate: the activation that joins the two, or 0                 */
    int cut;                   /* weights that have chunks of their own: n, or 1 when gated      */
    const zl_weight *w[WEIGHTS];
    zl_result result[WEIGHTS];
    int64_t first[WEIGHTS + 1];/* chunks of weight i are first[i] .. first[i + 1] - 1           */
    int64_t panels[WEIGHTS];   /* per chunk                                                     */
    int64_t tokens, blocks;    /* rows of x per chunk, whole groups; how many such blocks       */
    int64_t slab[WEIGHTS];     /* outputs per chunk that a BLAS library makes; 0: it does not     */
    uint8_t *has_x;            /* per thread: which forms of its own x are there                */
    int64_t form_rows;         /* per chunk of the stage that makes x's forms: whole groups     */
    int in_shares;             /* chunks are numbered thread by thread, see in_shares            */
} job;

/* Rows t0..t1-1 of x into a quantised form, `per` columns rounded together. t0 begins a group. */
static void quantize_rows(const zl_kernels *k, const zl_activation *x, int per, const int32_t *form, int64_t t0, int64_t t1) {
    for (int64_t t = t0; t < t1; t += k->group)
        k->quantize_group(min64(k->group, t1 - t), x->cols, per, x->x + t * x->cols, (int32_t *)form + t * (x->cols / 32) * ZL_X_WORDS);
}

/* The same as floats at x->columns, as pairs of bf16 at x->pairs. */
static void interleave_rows(const zl_kernels *k, const zl_activation *x, int64_t t0, int64_t t1) {
    for (int64_t t = t0; t < t1; t += k->float_group)
        k->interleave_group(min64(k->float_group, t1 - t), x->cols, x->x + t * x->cols, (float *)x->columns + t * x->cols);
}
static void pair_rows(const zl_kernels *k, const zl_activation *x, int64_t t0, int64_t t1) {
    for (int64_t t = t0; t < t1; t += k->float_group)
        k->interleave_bf16(min64(k->float_group, t1 - t), x->cols, x->x + t * x->cols, (uint32_t *)x->pairs + t * ceil_div(x->cols, 2));
}

static void make_forms(const zl_kernels *k, int forms, const zl_activation *x, int64_t t0, int64_t t1) {
    if (forms & BLOCKS) quantize_rows(k, x, 32, x->blocks, t0, t1);
    if (forms & LONGS) quantize_rows(k, x, 256, x->longs, t0, t1);
    if (forms & COLUMNS) interleave_rows(k, x, t0, t1);
    if (forms & PAIRS) pair_rows(k, x, t0, t1);
}

/* Where they stand: `room` has forms_bytes. */
static void place_forms(int forms, zl_activation *x, int64_t rows, uint8_t *room) {
    if (forms & BLOCKS) x->blocks = (const int32_t *)(const void *)room, room += activation_bytes(rows, x->cols);
    if (forms & LONGS) x->longs = (const int32_t *)(const void *)room, room += activation_bytes(rows, x->cols);
    if (forms & COLUMNS) x->columns = (const float *)(const void *)room, room += column_bytes(rows, x->cols);
    if (forms & PAIRS) x->pairs = (const uint32_t *)(const void *)room;
}

static void form_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    const int64_t t0 = chunk * j->form_rows, t1 = min64(t0 + j->form_rows, j->x.n);
    (void)thread;
    make_forms(j->r->k, j->forms, &j->x, t0, t1);
}

/* On several NUMA nodes each thread's share of every weight lies on its node (numa.c). Several weights one after the other would deal a thread
 * the first of all weights and its neighbour the last; so chunks are numbered thread by thread, each with its share of all weights:
 *
 *      by weight    q0 q1 q2 q3 | k0 k1 | v0 v1         by shares of 2    q0 q1 k0 v0 | q2 q3 k1 v1
 */
static int64_t in_shares(const job *j, int64_t chunk) {
    const int n = zl_ctx_threads(j->r->ctx);
    for (int t = 0; t < n; t++)
        for (int i = 0; i < j->cut; i++) {
            const int64_t of_weight = j->first[i + 1] - j->first[i], from = zl_share_begin(of_weight, t, n);
            const int64_t count = zl_share_begin(of_weight, t + 1, n) - from;
            if (chunk < count) return j->first[i] + from + chunk;
            chunk -= count;
        }
    return chunk; /* not reached: the shares of all threads are all chunks */
}

/* which weight chunk `*chunk` belongs to; *chunk becomes its number within that weight */
static int weight_of_chunk(const job *j, int64_t *chunk) {
    int i = 0;
    if (j->in_shares) *chunk = in_shares(j, *chunk);
    while (*chunk >= j->first[i + 1]) i++;
    *chunk -= j->first[i];
    return i;
}

/* rows t0..t1-1, outputs begin..end-1: gate becomes act(gate) * up */
static void join(const job *j, int64_t t0, int64_t t1, int64_t begin, int64_t end) {
    for (int64_t t = t0; t < t1; t++) {
        float *gate = j->result[0].y + t * j->w[0]->rows + begin;
        j->r->k->glu(j->act, end - begin, gate, j->result[1].y + t * j->w[0]->rows + begin, gate);
    }
}

/* panels begin..end-1 of weight i by rows t0..t1-1 */
static void multiply(job *j, int i, int64_t begin, int64_t end, int64_t t0, int64_t t1, int thread) {
    const zl_weight *w = j->w[i];
    uint8_t *own_x = j->r->private_[thread], *scratch = own_x + forms_bytes(j->forms, PRIVATE_ROWS, j->x.cols);
    zl_activation x = j->x;
    if (x.n <= PRIVATE_ROWS) { /* its own x stays for the thread's later chunks, of this weight and of the others */
        const int form = form_of(w);
        place_forms(j->forms, &x, PRIVATE_ROWS, own_x);
        if (x.n == 1) x.columns = x.x; /* a lone row is a group as it is */
        if (!(j->has_x[thread] & form) && !(x.n == 1 && form == COLUMNS)) make_forms(j->r->k, form, &x, 0, x.n);
        j->has_x[thread] |= (uint8_t)form;
    }
    if (form_of(w) == LONGS) x.blocks = x.longs;
    (zl_weight_is_float(w) ? w->k->linear_float : w->k->linear_quant)(w, begin, end, t0, t1, &x, &j->result[i], scratch);
}

static int64_t panels_of(const zl_weight *w) { return ceil_div(w->rows, w->k->lanes); }

/* outputs from `row` on of weight i by all rows of x */
static void slab_chunk(const job *j, int i, int64_t row, int thread) {
    zl_slab(j->r->ctx, j->w[i], row, &j->x, &j->result[i], j->r->private_[thread]);
    if (!j->act) return;
    zl_slab(j->r->ctx, j->w[1], row, &j->x, &j->result[1], j->r->private_[thread]);
    join(j, 0, j->x.n, row, min64(row + j->slab[i], j->w[0]->rows));
}

static void multiply_chunk(void *arg, int64_t chunk, int thread) {
    job *j = arg;
    const int i = weight_of_chunk(j, &chunk);
    const zl_weight *w = j->w[i];
    if (j->slab[i]) {
        slab_chunk(j, i, chunk * j->slab[i], thread);
        return;
    }
    const int64_t begin = chunk / j->blocks * j->panels[i], end = min64(begin + j->panels[i], panels_of(w));
    const int64_t t0 = chunk % j->blocks * j->tokens, t1 = min64(t0 + j->tokens, j->x.n);
    multiply(j, i, begin, end, t0, t1, thread);
    if (!j->act) return;
    multiply(j, 1, begin, end, t0, t1, thread);
    join(j, t0, t1, begin * w->k->lanes, min64(end * w->k->lanes, w->rows));
}

/* Runs of panels: a part of a thread's share, so that shares are even and what is stolen at the end is little; but long where the memory
 * sets the pace, since a run is read as two streams and each costs the memory's latency once: with an eighth of a share instead of a
 * quarter SmolLM2's ops read 22 GB/s instead of 28. Blocks of rows of x: what fits half of an L2 cache of a megabyte; smaller ones while there are too few chunks to share out evenly. Panels
 * that are widened first want long blocks, since each block widens them anew: IQ3_S reads 280 tokens/s so, where short ones gave 250. */
static void cut(job *j) {
    enum { ALONE = 16 << 10, PANELS = 2 /* what the kernels take at a time */ };
    enum { X_BYTES = 512 << 10, WIDENED_X_BYTES = 16 << 20, LEAST = 64 };
    const int64_t threads = zl_ctx_threads(j->r->ctx), per_thread = j->x.n > ZL_FEW ? 8 : 4;
    int64_t total = 0, runs = 0, run[WEIGHTS];
    int widened = 0;
    for (int i = 0; i < j->n; i++) total += panels_of(j->w[i]) * j->w[i]->panel_bytes, widened |= zl_weight_widens(j->w[i]);
    int64_t bytes = total / (per_thread * threads);
    if (total <= ALONE && j->x.n <= ZL_FEW) bytes = total;
    for (int i = 0; i < j->cut; i++) {
        const int64_t panel = j->w[i]->panel_bytes + (j->act ? j->w[1]->panel_bytes : 0);
        j->panels[i] = max64(bytes / panel / PANELS, 1) * PANELS;
        runs += run[i] = ceil_div(panels_of(j->w[i]), j->panels[i]);
    }
    j->blocks = 1;
    if (j->x.n > ZL_FEW) {
        const int64_t x_bytes = forms_bytes(j->forms & COLUMNS ? COLUMNS : j->forms & PAIRS ? PAIRS : BLOCKS, j->x.n, j->x.cols);
        j->blocks = ceil_div(x_bytes, widened ? WIDENED_X_BYTES : X_BYTES);
        while (runs * j->blocks < per_thread * threads && ceil_div(j->x.n, j->blocks + 1) >= LEAST) j->blocks++;
    }
    j->tokens = ceil_div(ceil_div(j->x.n, j->blocks), ROUND) * ROUND;
    j->blocks = ceil_div(j->x.n, j->tokens);
    for (int i = 0; i < j->cut; i++) {
        j->slab[i] = j->x.n > ZL_FEW ? zl_slab_rows(j->r->ctx, j->w[i]) : 0;
        if (j->act && zl_slab_rows(j->r->ctx, j->w[1]) != j->slab[i]) j->slab[i] = 0; /* gate and up go the same way */
        j->first[i + 1] = j->first[i] + (j->slab[i] ? ceil_div(j->w[i]->rows, j->slab[i]) : run[i] * j->blocks);
    }
}

static void run_linear(zl_run_state *r, const zl_op *op) {
    enum { FORM_CHUNK = 16384 };
    job j = {.r = r, .n = n_weights(op), .act = op->ip[1], .cut = op->ip[1] ? 1 : n_weights(op)};
    j.x = (zl_activation){.n = zl_rows_of(r, op->in[0]), .cols = r->tensors[op->in[0]].cols, .x = zl_data_of(r, op->in[0])};
    if (j.x.n == 0) return;
    for (int i = 0; i < j.n; i++) {
        j.w[i] = weight_of(op, r->tensors, i);
        j.result[i] = (zl_result){zl_data_of(r, op->out[i]), j.w[i]->rows, zl_data_of(r, op->in[2 + 3 * i]), zl_data_of(r, op->in[3 + 3 * i])};
        j.forms |= form_of(j.w[i]);
    }
    j.has_x = r->shared;
    memset(j.has_x, 0, (size_t)zl_ctx_threads(r->ctx));
    cut(&j);
    j.in_shares = j.cut > 1 && zl_ctx_several_nodes(r->ctx);
    const int by_library = j.slab[0] || j.slab[1] || j.slab[2];
    if (j.x.n > PRIVATE_ROWS) {
        place_forms(j.forms, &j.x, j.x.n, r->shared + lines(zl_ctx_threads(r->ctx)));
        j.form_rows = ceil_div(max64(1, FORM_CHUNK / j.x.cols), ROUND) * ROUND;
        zl_parallel(r->ctx, ceil_div(j.x.n, j.form_rows), form_chunk, &j);
    }
    if (by_library) zl_blas_begin(r->ctx);
    zl_parallel(r->ctx, j.first[j.cut], multiply_chunk, &j);
    if (by_library) zl_blas_end(r->ctx);
}

const zl_op_def zl_ops_linear[] = {
    {ZL_OP_LINEAR, "linear", check_linear, NULL, scratch_linear, run_linear},
    {.code = 0},
};
