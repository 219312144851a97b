/* ops_experts.c - the opcodes of a mixture of experts: `route` chooses k experts for each row, two others multiply with their weights.
 *
 *      route            logits (T, E) -> weights (T, k), ids (T, k)
 *      experts_gated    x (T, K)   -> h (T, k * F)     act(gate_e x) * up_e x      for each chosen expert e of the row
 *      experts_down     h (T, k * F) -> (T, C)         sum_j weight_j * down_e(j) h_j, in the router's order
 *
 * A row and one of its choices are a pair, number t * k + j. Pairs are sorted by expert, so that the rows of one expert stand together and go
 * through the kernels of `linear` as if they were a step of their own; experts that no row chose are not touched. Per op:
 *
 *      sort       pairs by expert, counting, in the caller
 *      forms      each row of x in the form that kernels read, once, as a group of one row
 *      weave      the rows of an expert into groups: the same words in another order (kernels/linear.h); a lone row is a group as it is
 *      multiply   chunks: an expert, a block of its rows, a run of panels
 *      sum        (experts_down) row by row
 *
 * What a product of a row is made of depends on that row and its expert's weights only: its bits are those of `linear` with the expert's
 * matrix. A BLAS library takes no part. An id that no expert has (none of route's) makes NaN and reads nothing.
 */
#include "core.h"
#include <math.h>
#include <string.h>

enum { LINE = 64, MOST_CHOSEN = 256, ROUND = 24 /* a multiple of every variant's groups, of both forms */ };
enum { BLOCKS, COLUMNS, PAIRS, LONGS, FORMS }; /* of x: quantised; floats; pairs of bf16; quantised for long formats */
enum { TILE = 24576 /* floats of gate, and of up, that a thread has at a time */, X_BYTES = 512 << 10, MOST_ROWS = 192 };

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t lines(int64_t bytes) { return ceil_div(bytes, LINE) * LINE; }

static int is_quantised(int form) { return form == BLOCKS || form == LONGS; }
static int form_of(const zl_weight *w) { return w->form == ZL_PAIRS ? PAIRS : zl_weight_is_float(w) ? COLUMNS : zl_is_long(w->type) ? LONGS : BLOCKS; }
static int64_t panels_of(const zl_weight *w) { return ceil_div(w->rows, w->k->lanes); }
/* Words of 4 bytes that a row of k columns takes in a form. */
static int64_t words_of(int form, int64_t k) { return is_quantised(form) ? k / 32 * ZL_X_WORDS : form == COLUMNS ? k : ceil_div(k, 2); }

/* ---- route ------------------------------------------------------------------------------------------------------------------------ */

static int check_route(const zl_op *op, const zl_tensor *t) {
    int status = zl_want_rows("route", t, op->in[0], -1);
    if (status) return status;
    const int64_t k = op->ip[0], n = t[op->in[0]].cols;
    if (k < 1 || k > n || k > MOST_CHOSEN)
        return zl_fail(ZL_E_ARG, "route: k is %lld, want 1 to %lld", (long long)k, (long long)min64(n, MOST_CHOSEN));
    if (op->ip[1] < ZL_SOFTMAX_ALL || op->ip[1] > ZL_SIGMOID_SHARE) return zl_fail(ZL_E_ARG, "route: unknown gating %d", op->ip[1]);
    for (int i = 0; i < 2; i++) {
        if ((status = zl_want_rows("route", t, op->out[i], k))) return status;
        if (t[op->out[i]].rows_kind != t[op->in[0]].rows_kind) return zl_fail(ZL_E_SHAPE, "route: output %d counts its rows differently", i);
    }
    if (op->out[0] == op->out[1] || op->out[0] == op->in[0] || op->out[1] == op->in[0])
        return zl_fail(ZL_E_ARG, "route: tensors %d, %d and %d are not three", op->in[0], op->out[0], op->out[1]);
    return ZL_OK;
}

/* Per thread: probabilities (E), and which experts a row has chosen already. */
static void scratch_route(const zl_ctx *ctx, const zl_op *op, const zl_tensor *t, int64_t rows, int64_t *shared, int64_t *private_) {
    (void)ctx, (void)rows;
    *shared = 0;
    *private_ = lines(t[op->in[0]].cols * 4) + lines(t[op->in[0]].cols);
}

/* Whether a is chosen before b, which has the lower id. */
static int before(float a, float b) { return a > b || (isnan(a) && !isnan(b)); }

static void choose(int64_t n, const float *x, int64_t k, uint8_t *taken, int32_t *ids) {
    memset(taken, 0, (size_t)n);
    for (int64_t j = 0; j < k; j++) {
        int64_t best = -1;
        for (int64_t e = 0; e < n; e++)
            if (!taken[e] && (best < 0 || before(x[e], x[best]))) best = e;
        taken[best] = 1;
        ids[j] = (int32_t)best;
    }
}

static void weigh(const zl_kernels *kn, int gating, int64_t n, const float *x, int64_t k, const int32_t *ids, float *shares, float *out) {
    for (int64_t j = 0; j < k; j++) out[j] = x[ids[j]];
    if (gating == ZL_SOFTMAX_ALL) {
        kn->softmax(1, n, x, 1.0f, shares);
        for (int64_t j = 0; j < k; j++) out[j] = shares[ids[j]];
    } else if (gating == ZL_SOFTMAX_CHOSEN) {
        kn->softmax(1, k, out, 1.0f, out);
    } else {
        kn->unary(ZL_SIGMOID, k, out, out);
        float sum = 0;
        for (int64_t j = 0; j < k; j++) sum += out[j];
        for (int64_t j = 0; j < k && gating == ZL_SIGMOID_SHARE; j++) out[j] /= sum;
    }
}

typedef struct {
    const zl_run_state *r;
    const zl_op *op;
    int64_t n, per; /* rows in all and per chunk */
} route_job;

static void route_chunk(void *arg, int64_t chunk, int thread) {
    const route_job *j = arg;
    const zl_run_state *r = j->r;
    const int64_t n = r->tensors[j->op->in[0]].cols, k = j->op->ip[0];
    float *shares = (float *)(void *)r->private_[thread];
    uint8_t *taken = r->private_[thread] + lines(n * 4);
    for (int64_t t = chunk * j->per; t < min64((chunk + 1) * j->per, j->n); t++) {
        const float *x = zl_data_of(r, j->op->in[0]) + t * n;
        int32_t ids[MOST_CHOSEN];
        choose(n, x, k, taken, ids);
        memcpy(zl_data_of(r, j->op->out[1]) + t * k, ids, (size_t)k * 4);
        weigh(r->k, j->op->ip[1], n, x, k, ids, shares, zl_data_of(r, j->op->out[0]) + t * k);
    }
}

static void run_route(zl_run_state *r, const zl_op *op) {
    enum { SMALL = 8192 };
    route_job j = {r, op, zl_rows_of(r, op->in[0]), 1 + SMALL / (r->tensors[op->in[0]].cols * op->ip[0])};
    zl_parallel(r->ctx, ceil_div(j.n, j.per), route_chunk, &j);
}

/* ---- products: what can be known before a step ----------------------------------------------------------------------------------------- */

static int is_down(const zl_op *op) { return op->code == ZL_OP_EXPERTS_DOWN; }
static int n_weights(const zl_op *op) { return is_down(op) ? 1 : 2; }
static const zl_weight *weight_of(const zl_op *op, const zl_tensor *t, int i) { return t[op->in[(is_down(op) ? 3 : 2) + i]].data; }

static int check_products(const char *name, const zl_op *op, const zl_tensor *t) {
    int status = zl_want_rows(name, t, op->in[0], -1);
    if (!status) status = zl_want_rows(name, t, op->in[1], -1);
    if (!status && is_down(op)) status = zl_want_rows(name, t, op->in[2], t[op->in[1]].cols);
    for (int i = 0; i < n_weights(op) && !status; i++) status = zl_want_kind(name, t, op->in[(is_down(op) ? 3 : 2) + i], ZL_WEIGHT);
    if (status) return status;
    const int64_t k = t[op->in[1]].cols;
    const zl_weight *w = weight_of(op, t, 0), *last = weight_of(op, t, n_weights(op) - 1);
    if (k > MOST_CHOSEN) return zl_fail(ZL_E_SHAPE, "%s: %lld experts per row, want 1 to %d", name, (long long)k, MOST_CHOSEN);
    for (int i = 0; i < n_weights(op); i++) {
        const zl_format *f = zl_format_of(weight_of(op, t, i)->type);
        if (!f->multiplied) return zl_fail(ZL_E_TYPE, "%s: no kernel multiplies %s, weight %d", name, f->name, i);
    }
    if (last->rows != w->rows || last->cols != w->cols || last->stack != w->stack)
        return zl_fail(ZL_E_SHAPE, "%s: gate is %lld of (%lld, %lld), up %lld of (%lld, %lld)", name, (long long)w->stack, (long long)w->rows,
                       (long long)w->cols, (long long)last->stack, (long long)last->rows, (long long)last->cols);
    const int64_t in = is_down(op) ? k * w->cols : w->cols, out = is_down(op) ? w->rows : k * w->rows;
    if (t[op->in[0]].cols != in)
        return zl_fail(ZL_E_SHAPE, "%s: weights of (%lld, %lld) and %lld experts per row, x has %lld columns", name, (long long)w->rows,
                       (long long)w->cols, (long long)k, (long long)t[op->in[0]].cols);
    if ((status = zl_want_rows(name, t, op->out[0], out))) return status;
    for (int i = 0; i < (is_down(op) ? 3 : 2); i++) {
        if (t[op->in[i]].rows_kind != t[op->out[0]].rows_kind) return zl_fail(ZL_E_SHAPE, "%s: operand %d counts its rows differently", name, i);
        if (op->in[i] == op->out[0]) return zl_fail(ZL_E_ARG, "%s: output %d is operand %d itself", name, op->out[0], i);
    }
    return ZL_OK;
}
static int check_gated(const zl_op *op, const zl_tensor *t) {
    if (op->ip[0] < ZL_RELU || op->ip[0] > ZL_RELU_SQUARED) return zl_fail(ZL_E_ARG, "experts_gated: unknown activation %d", op->ip[0]);
    return check_products("experts_gated", op, t);
}
static int check_down(const zl_op *op, const zl_tensor *t) { return check_products("experts_down", op, t); }

/* ---- a run ------------------------------------------------------------------------------------------------------------------------ */

typedef struct {
    const zl_run_state *r;
    const zl_op *op;
    int n, down;               /* weights; whether it is experts_down                          */
    const zl_weight *w[2];
    int64_t k, cols, pairs;    /* experts per row; K; T * k                                    */
    const float *x;            /* rows of K: T, or one per pair for experts_down               */
    int64_t rows;              /* how many                                                     */
    int64_t *order, *place;    /* the pairs by expert; where in that order a pair is, or -1    */
    int64_t *first;            /* [E + 1] per expert its first place                           */
    int64_t *active, n_active; /* experts that some row chose, ascending                       */
    int64_t *chunk;            /* [active + 1] the first chunk of each                          */
    const uint32_t *lone[FORMS]; /* each row of x as a group of its own, or NULL                */
    uint32_t *woven[FORMS];    /* the pairs in order, each expert's in groups, or NULL          */
    float *y;                  /* (pairs, C) in order, of experts_down                          */
    int64_t form_rows;         /* rows per chunk of the stage that makes forms                  */
    int64_t block, panels;     /* rows of an expert and panels per chunk                        */
} job;

/* Where everything stands in the shared scratch: bytes of it. j->pairs, rows, cols, w are set. */
static int64_t place(job *j, uint8_t *base) {
    int64_t at = 0;
    const int64_t e = j->w[0]->stack;
    int used[FORMS] = {0};
    for (int i = 0; i < j->n; i++) used[form_of(j->w[i])] = 1;
#define PLACE(pointer, type, count) (pointer = (type *)(void *)(base ? base + at : NULL), at += lines((count) * (int64_t)sizeof(type)))
    PLACE(j->order, int64_t, j->pairs);
    PLACE(j->place, int64_t, j->pairs);
    PLACE(j->first, int64_t, e + 1);
    PLACE(j->active, int64_t, e);
    PLACE(j->chunk, int64_t, e + 1);
    for (int f = 0; f < FORMS; f++) {
        if (!used[f]) continue;
        const int64_t words = words_of(f, j->cols);
        uint32_t *lone;
        if (f == COLUMNS) j->lone[f] = (const uint32_t *)(const void *)j->x;
        else PLACE(lone, uint32_t, j->rows * words), j->lone[f] = lone;
        PLACE(j->woven[f], uint32_t, j->pairs * words);
    }
    if (j->down) PLACE(j->y, float, j->pairs * j->w[0]->rows);
#undef PLACE
    return at;
}

static job job_of(const zl_op *op, const zl_tensor *t, int64_t rows) {
    job j = {.op = op, .n = n_weights(op), .down = is_down(op), .k = t[op->in[1]].cols};
    for (int i = 0; i < j.n; i++) j.w[i] = weight_of(op, t, i);
    j.cols = j.w[0]->cols;
    j.pairs = rows * j.k;
    j.rows = j.down ? j.pairs : rows;
    return j;
}

static void scratch_products(const zl_ctx *ctx, const zl_op *op, const zl_tensor *t, int64_t rows, int64_t *shared, int64_t *private_) {
    (void)ctx;
    job j = job_of(op, t, rows);
    *shared = place(&j, NULL);
    int64_t most = 0;
    for (int i = 0; i < j.n; i++) most = max64(most, zl_weight_scratch(j.w[i]));
    *private_ = 2 * TILE * 4 + most;
}

static int32_t id_of(const job *j, int64_t pair) {
    int32_t id;
    memcpy(&id, zl_data_of(j->r, j->op->in[1]) + pair, 4);
    return id;
}
static int known(const job *j, int32_t id) { return id >= 0 && id < j->w[0]->stack; }

static void sort(job *j) {
    const int64_t e = j->w[0]->stack;
    memset(j->first, 0, (size_t)(e + 1) * sizeof *j->first);
    for (int64_t p = 0; p < j->pairs; p++)
        if (known(j, id_of(j, p))) j->first[id_of(j, p) + 1]++;
    for (int64_t i = 0; i < e; i++) {
        if (j->first[i + 1]) j->active[j->n_active++] = i;
        j->first[i + 1] += j->first[i];
        j->chunk[i] = j->first[i]; /* for now: the expert's next free place */
    }
    for (int64_t p = 0; p < j->pairs; p++) {
        const int32_t id = id_of(j, p);
        j->place[p] = known(j, id) ? j->chunk[id]++ : -1;
        if (j->place[p] >= 0) j->order[j->place[p]] = p;
    }
}

static void form_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    const zl_kernels *k = j->r->k;
    (void)thread;
    for (int64_t t = chunk * j->form_rows; t < min64((chunk + 1) * j->form_rows, j->rows); t++) {
        const float *x = j->x + t * j->cols;
        if (j->lone[BLOCKS]) k->quantize_group(1, j->cols, 32, x, (int32_t *)(uintptr_t)(j->lone[BLOCKS] + t * words_of(BLOCKS, j->cols)));
        if (j->lone[LONGS]) k->quantize_group(1, j->cols, 256, x, (int32_t *)(uintptr_t)(j->lone[LONGS] + t * words_of(LONGS, j->cols)));
        if (j->lone[PAIRS]) k->interleave_bf16(1, j->cols, x, (uint32_t *)(uintptr_t)(j->lone[PAIRS] + t * words_of(PAIRS, j->cols)));
    }
}

/* The place-th pair's row of x in a form, as a group of one. */
static const uint32_t *lone_row(const job *j, int form, int64_t at) {
    const int64_t pair = j->order[at];
    return j->lone[form] + (j->down ? pair : pair / j->k) * words_of(form, j->cols);
}

static void weave_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    const zl_kernels *k = j->r->k;
    const int64_t e = j->active[chunk], begin = j->first[e], n = j->first[e + 1] - begin;
    (void)thread;
    if (n == 1) return; /* it is read where it is */
    for (int f = 0; f < FORMS; f++) {
        if (!j->woven[f]) continue;
        const int64_t words = words_of(f, j->cols), group = is_quantised(f) ? k->group : k->float_group;
        for (int64_t t = 0; t < n; t += group) {
            const int64_t g = min64(group, n - t);
            for (int64_t i = 0; i < g; i++) {
                const uint32_t *from = lone_row(j, f, begin + t + i);
                uint32_t *to = j->woven[f] + (begin + t) * words + i;
                for (int64_t w = 0; w < words; w++) memcpy(to + w * g, from + w, 4);
            }
        }
    }
}

/* Panels begin..end-1 of matrix e of a stack, as a weight of their own; `end` -1: all. */
static zl_weight part_of(const zl_weight *w, int64_t e, int64_t begin, int64_t end) {
    zl_weight part = *w;
    const int64_t row = begin * w->k->lanes;
    part.stack = 1;
    part.rows = end < 0 ? w->rows : min64(w->rows, end * w->k->lanes) - row;
    if (w->mapped) part.data += (e * w->rows + row) * w->row_bytes;
    else part.panels += (e * panels_of(w) + begin) * w->panel_bytes;
    return part;
}

/* Rows t0..t1-1 of expert e, t0 whole groups from its first, as kernels take them. */
static zl_activation rows_of(const job *j, int form, int64_t e, int64_t t0, int64_t t1) {
    const int64_t at = j->first[e] + t0, n = j->first[e + 1] - j->first[e];
    const uint32_t *p = n == 1 ? lone_row(j, form, at) : j->woven[form] + at * words_of(form, j->cols);
    zl_activation x = {.n = t1 - t0, .cols = j->cols};
    if (is_quantised(form)) x.blocks = (const int32_t *)(const void *)p;
    else if (form == COLUMNS) x.columns = (const float *)(const void *)p;
    else x.pairs = p;
    return x;
}

static void multiply_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    int64_t a = 0;
    while (chunk >= j->chunk[a + 1]) a++;
    const int64_t e = j->active[a], n = j->first[e + 1] - j->first[e], blocks = ceil_div(n, j->block);
    const int64_t run = (chunk - j->chunk[a]) / blocks, t0 = (chunk - j->chunk[a]) % blocks * j->block, t1 = min64(t0 + j->block, n);
    const int64_t begin = run * j->panels, end = min64(begin + j->panels, panels_of(j->w[0])), lanes = j->w[0]->k->lanes;
    float *tile = (float *)(void *)j->r->private_[thread];
    uint8_t *scratch = j->r->private_[thread] + 2 * TILE * 4;
    for (int i = 0; i < j->n; i++) {
        const zl_weight *w = j->w[i];
        const zl_activation x = rows_of(j, form_of(w), e, t0, t1);
        /* experts_down writes where it belongs; gate and up into tiles, each as wide as the run is */
        const zl_weight part = part_of(w, e, j->down ? 0 : begin, j->down ? -1 : end);
        const zl_result result = {j->down ? j->y + (j->first[e] + t0) * w->rows : tile + i * TILE, part.rows, NULL, NULL};
        (zl_weight_is_float(w) ? w->k->linear_float : w->k->linear_quant)(&part, j->down ? begin : 0, j->down ? end : end - begin, 0, t1 - t0, &x, &result, scratch);
        zl_ctx_count_experts(j->r->ctx, t0 ? 0 : (end - begin) * w->panel_bytes);
    }
    if (j->down) return;
    const int64_t f = j->w[0]->rows, width = min64(f, end * lanes) - begin * lanes;
    for (int64_t t = t0; t < t1; t++) {
        float *out = zl_data_of(j->r, j->op->out[0]) + j->order[j->first[e] + t] * f + begin * lanes;
        j->r->k->glu(j->op->ip[0], width, tile + (t - t0) * width, tile + TILE + (t - t0) * width, out);
    }
}

/* As in `linear`: runs that are a part of a thread's share; blocks of rows that stay in the L2 cache. */
static void cut(job *j) {
    enum { PANELS = 2 /* what the kernels take at a time */ };
    const int64_t threads = zl_ctx_threads(j->r->ctx), per_thread = j->rows > ZL_FEW ? 8 : 4, panels = panels_of(j->w[0]), lanes = j->w[0]->k->lanes;
    int64_t most = 1, panel = 0;
    for (int64_t a = 0; a < j->n_active; a++) most = max64(most, j->first[j->active[a] + 1] - j->first[j->active[a]]);
    for (int i = 0; i < j->n; i++) panel += j->w[i]->panel_bytes;
    const int64_t fit = X_BYTES / (words_of(form_of(j->w[0]), j->cols) * 4);
    j->block = min64(max64(fit / ROUND, 1) * ROUND, MOST_ROWS);
    const int64_t rows = min64(most, j->block), bytes = j->n_active * panels * panel / (per_thread * threads);
    j->panels = max64(bytes / panel / PANELS, 1);
    if (!j->down) j->panels = min64(j->panels, TILE / (rows * lanes) / PANELS);
    j->panels *= PANELS;
    int64_t chunks = 0;
    for (int64_t a = 0; a < j->n_active; a++) {
        const int64_t n = j->first[j->active[a] + 1] - j->first[j->active[a]];
        j->chunk[a] = chunks;
        chunks += ceil_div(panels, j->panels) * ceil_div(n, j->block);
    }
    j->chunk[j->n_active] = chunks;
}

/* Row t of the result: its experts' outputs by their weights, in the router's order. */
static void sum_chunk(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    const int64_t n = j->w[0]->rows, per = j->form_rows;
    const float *weights = zl_data_of(j->r, j->op->in[2]);
    (void)thread;
    for (int64_t t = chunk * per; t < min64((chunk + 1) * per, j->pairs / j->k); t++) {
        float *out = zl_data_of(j->r, j->op->out[0]) + t * n;
        for (int64_t i = 0; i < j->k; i++) {
            const int64_t at = j->place[t * j->k + i];
            const float w = at < 0 ? NAN : weights[t * j->k + i], *y = j->y + max64(at, 0) * n;
            if (at < 0)
                for (int64_t c = 0; c < n; c++) out[c] = NAN;
            else if (i == 0)
                for (int64_t c = 0; c < n; c++) out[c] = w * y[c];
            else
                for (int64_t c = 0; c < n; c++) out[c] += w * y[c];
        }
    }
}

/* The parts of `out` that no expert makes. */
static void fill_unknown(const job *j) {
    const int64_t f = j->w[0]->rows;
    float *out = zl_data_of(j->r, j->op->out[0]);
    for (int64_t p = 0; p < j->pairs; p++)
        for (int64_t c = 0; c < f && j->place[p] < 0; c++) out[p * f + c] = NAN;
}

static void run_products(zl_run_state *r, const zl_op *op) {
    enum { FORM_CHUNK = 16384 };
    job j = job_of(op, r->tensors, zl_rows_of(r, op->in[0]));
    if (j.pairs == 0) return;
    j.r = r;
    j.x = zl_data_of(r, op->in[0]);
    place(&j, r->shared);
    sort(&j);
    j.form_rows = max64(1, FORM_CHUNK / j.cols);
    if (j.lone[BLOCKS] || j.lone[LONGS] || j.lone[PAIRS]) zl_parallel(r->ctx, ceil_div(j.rows, j.form_rows), form_chunk, &j);
    if (j.n_active < j.pairs) zl_parallel(r->ctx, j.n_active, weave_chunk, &j); /* else every row is alone */
    cut(&j);
    zl_parallel(r->ctx, j.chunk[j.n_active], multiply_chunk, &j);
    j.form_rows = max64(1, FORM_CHUNK / (j.w[0]->rows * j.k));
    if (j.down) zl_parallel(r->ctx, ceil_div(j.pairs / j.k, j.form_rows), sum_chunk, &j);
    else fill_unknown(&j);
}

const zl_op_def zl_ops_experts[] = {
    {ZL_OP_ROUTE, "route", check_route, NULL, scratch_route, run_route},
    {ZL_OP_EXPERTS_GATED, "experts_gated", check_gated, NULL, scratch_products, run_products},
    {ZL_OP_EXPERTS_DOWN, "experts_down", check_down, NULL, scratch_products, run_products},
    {.code = 0},
};
