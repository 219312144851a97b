/* ops_linear.c - the opcode `linear`: up to three weights that share x, with bias and residual; its cutting into chunks.
 *
 *      T <= 4       one stage. Each thread quantises x for itself when it claims its first chunk; a chunk is a run of panels.
 *      T <= 8       two stages: x is quantised once, by all; then as above
 *      more         two stages; a chunk of the second is a tile of 64 outputs by up to 512 rows of x
 *
 * All three give the same bits (kernels/linear.h). Chunks of one thread's share follow each other in memory.
 *
 * Gated (ip[1] is an activation): the two weights are gate and up, a chunk makes the same outputs of both and then act(gate) * up of them
 * while they are in the cache nearest to it: the bits of two products and a glu.
 */
#include "core.h"
#include <string.h>

enum { WEIGHTS = 3, PRIVATE_ROWS = 4, LINE = 64 };

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t lines(int64_t bytes) { return ceil_div(bytes, LINE) * LINE; }

static int is_float(const zl_weight *w) { return w->type == ZL_TYPE_F32 || w->type == ZL_TYPE_F16 || w->type == ZL_TYPE_BF16; }
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
        if ((status = zl_want_kind("linear", t, op->in[1 + 3 * i], ZL_WEIGHT))) return status;
        const zl_weight *w = weight_of(op, t, i);
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
    if (op->ip[1] < ZL_RELU || op->ip[1] > ZL_EXP) return zl_fail(ZL_E_ARG, "linear: unknown activation %d", op->ip[1]);
    if (n != 2 || op->in[3] >= 0 || op->in[6] >= 0)
        return zl_fail(ZL_E_ARG, "linear: an activation joins two weights without residuals, there are %d, residuals %d and %d", n, op->in[3], op->in[6]);
    if (weight_of(op, t, 0)->rows != weight_of(op, t, 1)->rows)
        return zl_fail(ZL_E_SHAPE, "linear: gate has %lld rows, up %lld", (long long)weight_of(op, t, 0)->rows, (long long)weight_of(op, t, 1)->rows);
    return ZL_OK;
}

/* Bytes of `rows` quantised rows of k columns. */
static int64_t activation_bytes(int64_t rows, int64_t k) { return lines(rows * ceil_div(k, 32) * ZL_X_WORDS * 4); }

static void scratch_linear(const zl_ctx *ctx, const zl_op *op, const zl_tensor *t, int64_t rows, int64_t *shared, int64_t *private_) {
    const int64_t k = t[op->in[0]].cols;
    int64_t panels = 0;
    for (int i = 0; i < n_weights(op); i++) {
        const zl_weight *w = weight_of(op, t, i);
        if (w->mapped) panels = max64(panels, ZL_FEW_PANELS * w->panel_bytes);
    }
    *shared = lines(zl_ctx_threads(ctx)) + (rows > PRIVATE_ROWS ? activation_bytes(rows, k) : 0);
    *private_ = activation_bytes(PRIVATE_ROWS, k) + panels;
    if (rows > ZL_FEW) *private_ = max64(*private_, ZL_MANY_SCRATCH);
}

/* ---- a run ------------------------------------------------------------------------------------------------------------------------ */

typedef struct {
    const zl_run_state *r;
    zl_activation x;           /* blocks: of all threads, or NULL where each has its own        */
    int n;                     /* weights                                                       */
    int act;                   /* gate: the activation that joins the two, or 0                 */
    int cut;                   /* weights that have chunks of their own: n, or 1 when gated      */
    const zl_weight *w[WEIGHTS];
    zl_result result[WEIGHTS];
    int64_t first[WEIGHTS + 1];/* chunks of weight i are first[i] .. first[i + 1] - 1           */
    int64_t panels[WEIGHTS];   /* per chunk, when rows are few                                  */
    int64_t tokens;            /* per chunk, when rows are many                                 */
    uint8_t *has_x;            /* per thread: its own quantised x is there                      */
    int64_t quantize_rows;     /* per chunk of the stage that quantises: whole groups           */
} job;

/* Rows t0..t1-1 of x into its quantised form at x->blocks. t0 begins a group. */
static void quantize_rows(const zl_kernels *k, const zl_activation *x, int64_t t0, int64_t t1) {
    for (int64_t t = t0; t < t1; t += k->group)
        k->quantize_group(min64(k->group, t1 - t), x->cols, x->x + t * x->cols, (int32_t *)x->blocks + t * (x->cols / 32) * ZL_X_WORDS);
}

static void quantize_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    (void)thread;
    quantize_rows(j->r->k, &j->x, chunk * j->quantize_rows, min64((chunk + 1) * j->quantize_rows, j->x.n));
}

/* which weight chunk `*chunk` belongs to; *chunk becomes its number within that weight */
static int weight_of_chunk(const job *j, int64_t *chunk) {
    int i = 0;
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

/* panels begin..end-1 of weight i */
static void few_panels(job *j, int i, int64_t begin, int64_t end, int thread) {
    const zl_weight *w = j->w[i];
    uint8_t *own_x = j->r->private_[thread], *scratch = own_x + activation_bytes(PRIVATE_ROWS, j->x.cols);
    if (is_float(w)) {
        w->k->few_float(w, begin, end, &j->x, &j->result[i], scratch);
        return;
    }
    zl_activation x = j->x;
    if (!x.blocks) { /* its own x stays for the thread's later chunks, of this weight and of the others */
        x.blocks = (const int32_t *)(const void *)own_x;
        if (!j->has_x[thread]) quantize_rows(j->r->k, &x, 0, x.n);
        j->has_x[thread] = 1;
    }
    w->k->few(w, begin, end, &x, &j->result[i], scratch);
}

static void few_chunk(void *arg, int64_t chunk, int thread) {
    job *j = arg;
    const int i = weight_of_chunk(j, &chunk);
    const zl_weight *w = j->w[i];
    const int64_t begin = chunk * j->panels[i], end = min64(begin + j->panels[i], ceil_div(w->rows, w->k->lanes));
    few_panels(j, i, begin, end, thread);
    if (!j->act) return;
    few_panels(j, 1, begin, end, thread);
    join(j, 0, j->x.n, begin * w->k->lanes, min64(end * w->k->lanes, w->rows));
}

static void many_tile(const job *j, int i, int64_t row, int64_t t0, int64_t t1, int thread) {
    const zl_weight *w = j->w[i];
    (is_float(w) ? w->k->many_float : w->k->many)(w, row, t0, t1, &j->x, &j->result[i], j->r->private_[thread]);
}

static void many_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    const int i = weight_of_chunk(j, &chunk);
    const int64_t blocks = ceil_div(j->x.n, j->tokens), row = chunk / blocks * ZL_TILE_ROWS, t0 = chunk % blocks * j->tokens;
    const int64_t t1 = min64(t0 + j->tokens, j->x.n);
    many_tile(j, i, row, t0, t1, thread);
    if (!j->act) return;
    many_tile(j, 1, row, t0, t1, thread);
    join(j, t0, t1, row, min64(row + ZL_TILE_ROWS, j->w[0]->rows));
}

/* Chunks of panels: an eighth of a thread's share (so that what is stolen at the end is little), but no less than 128 KiB or an eighth of
 * the op (so that streams are long). */
static void cut_few(job *j) {
    enum { CHUNK = 128 << 10, ALONE = 16 << 10, PANELS = 4 /* a multiple of what the kernels take at a time */ };
    int64_t total = 0;
    for (int i = 0; i < j->n; i++) total += ceil_div(j->w[i]->rows, j->w[i]->k->lanes) * j->w[i]->panel_bytes;
    int64_t bytes = max64(min64(CHUNK, total / 8), total / (8 * (int64_t)zl_ctx_threads(j->r->ctx)));
    if (total <= ALONE) bytes = total;
    for (int i = 0; i < j->cut; i++) {
        const int64_t panel = j->w[i]->panel_bytes + (j->act ? j->w[1]->panel_bytes : 0);
        j->panels[i] = ceil_div(ceil_div(bytes, panel), PANELS) * PANELS;
        j->first[i + 1] = j->first[i] + ceil_div(ceil_div(j->w[i]->rows, j->w[i]->k->lanes), j->panels[i]);
    }
}

/* Tiles: rows of x are split further while there are too few tiles to share out evenly; unpacking a tile costs as much as about two rows. */
static void cut_many(job *j) {
    enum { PER_THREAD = 8, LEAST = 128, ROUND = 8 };
    int64_t tiles = 0, want = PER_THREAD * (int64_t)zl_ctx_threads(j->r->ctx), blocks = ceil_div(j->x.n, ZL_TILE_TOKENS);
    for (int i = 0; i < j->cut; i++) tiles += ceil_div(j->w[i]->rows, ZL_TILE_ROWS);
    while (tiles * blocks < want && ceil_div(j->x.n, blocks + 1) >= LEAST) blocks++;
    j->tokens = ceil_div(ceil_div(j->x.n, blocks), ROUND) * ROUND;
    blocks = ceil_div(j->x.n, j->tokens);
    for (int i = 0; i < j->cut; i++) j->first[i + 1] = j->first[i] + ceil_div(j->w[i]->rows, ZL_TILE_ROWS) * blocks;
}

static void run_linear(zl_run_state *r, const zl_op *op) {
    enum { QUANTIZE_CHUNK = 16384 };
    job j = {.r = r, .n = n_weights(op), .act = op->ip[1], .cut = op->ip[1] ? 1 : n_weights(op)};
    int quantised = 0;
    j.x = (zl_activation){.n = zl_rows_of(r, op->in[0]), .cols = r->tensors[op->in[0]].cols, .x = zl_data_of(r, op->in[0])};
    if (j.x.n == 0) return;
    for (int i = 0; i < j.n; i++) {
        j.w[i] = weight_of(op, r->tensors, i);
        j.result[i] = (zl_result){zl_data_of(r, op->out[i]), j.w[i]->rows, zl_data_of(r, op->in[2 + 3 * i]), zl_data_of(r, op->in[3 + 3 * i])};
        quantised |= !is_float(j.w[i]);
    }
    const int many = j.x.n > ZL_FEW;
    j.has_x = r->shared;
    memset(j.has_x, 0, (size_t)zl_ctx_threads(r->ctx));
    if (quantised && j.x.n > PRIVATE_ROWS) {
        j.x.blocks = (const int32_t *)(const void *)(r->shared + lines(zl_ctx_threads(r->ctx)));
        j.quantize_rows = ceil_div(max64(1, QUANTIZE_CHUNK / j.x.cols), r->k->group) * r->k->group;
        zl_parallel(r->ctx, ceil_div(j.x.n, j.quantize_rows), quantize_chunk, &j);
    }
    if (many) cut_many(&j);
    else cut_few(&j);
    zl_parallel(r->ctx, j.first[j.cut], many ? many_chunk : few_chunk, &j);
}

const zl_op_def zl_ops_linear[] = {
    {ZL_OP_LINEAR, "linear", check_linear, NULL, scratch_linear, run_linear},
    {.code = 0},
};
