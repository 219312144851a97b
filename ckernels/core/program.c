/* program.c - running ops: at once (zl_run), or validated once and replayed (zl_program).
 *
 *      ops + tensors --check_all--> limits        everything that can be known without a step: tensor numbers, kinds, shapes
 *      step          --check_step->               what varies; with a program only this happens per run
 *                    --run_all---->               op after op; each cuts itself into chunks for the pool
 *
 * What comes in is data, not trust: a bad number gives a status and a text. The one thing that cannot be checked is that a pointer
 * which is not NULL points to as much memory as its shape says.
 */
#include "program.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_OPS = 1 << 20, MAX_TENSORS = 1 << 20, MAX_COLS = 1 << 26, MAX_ROWS = 1 << 24 };
static const int64_t max_values = (int64_t)1 << 40, max_arena_cols = (int64_t)1 << 36; /* no product of these overflows 63 bits */

struct zl_program {
    zl_ctx *ctx;
    int n_ops, n_tensors;
    zl_op *ops;               /* our own copies: the caller may drop or change its arrays */
    const zl_op_def **defs;   /* defs[i] = what ops[i].code is                             */
    zl_tensor *tensors;
    zl_op_time *times;        /* times[i]: what ops[i] took while the context timed them    */
    zl_limits limits;
    float *arena;
    int64_t arena_bytes, max_rows;
    int64_t stride;           /* rows of the last run: the arena is packed by the rows that a run has, see zl_data_of */
};

/* ---- checks that the op files share ------------------------------------------------------------------------------------------ */

static const char *kind_name(int kind) {
    static const char *const names[] = {"arena", "external", "constant", "weight", "cache"};
    return kind >= 0 && kind < 5 ? names[kind] : "unknown";
}

int zl_want_kind(const char *op, const zl_tensor *tensors, int i, int kind) {
    if (i < 0) return zl_fail(ZL_E_ARG, "%s: an operand is missing (a %s tensor)", op, kind_name(kind));
    if (tensors[i].kind != kind)
        return zl_fail(ZL_E_ARG, "%s: tensor %d is a %s tensor, want %s", op, i, kind_name(tensors[i].kind), kind_name(kind));
    return ZL_OK;
}

int zl_want_matrix(const char *op, const zl_tensor *tensors, int i) {
    int status = zl_want_kind(op, tensors, i, ZL_WEIGHT);
    if (status) return status;
    const zl_weight *w = tensors[i].data;
    return w->stack == 1 ? ZL_OK : zl_fail(ZL_E_SHAPE, "%s: weight %d is a stack of %lld matrices, want one", op, i, (long long)w->stack);
}

int zl_want_rows(const char *op, const zl_tensor *tensors, int i, int64_t cols) {
    if (i < 0) return zl_fail(ZL_E_ARG, "%s: an operand is missing (rows)", op);
    const zl_tensor *t = &tensors[i];
    if (t->kind != ZL_ARENA && t->kind != ZL_EXTERNAL)
        return zl_fail(ZL_E_ARG, "%s: tensor %d is a %s tensor, want rows", op, i, kind_name(t->kind));
    if (cols >= 0 && t->cols != cols)
        return zl_fail(ZL_E_SHAPE, "%s: tensor %d has %lld columns, want %lld", op, i, (long long)t->cols, (long long)cols);
    return ZL_OK;
}

int zl_want_const(const char *op, const zl_tensor *tensors, int i, int64_t n) {
    int status = zl_want_kind(op, tensors, i, ZL_CONST);
    if (status) return status;
    int64_t have = tensors[i].rows * tensors[i].cols;
    return have == n ? ZL_OK : zl_fail(ZL_E_SHAPE, "%s: constant %d has %lld values, want %lld", op, i, (long long)have, (long long)n);
}

int zl_want_plane(const char *op, int plane, const zl_step *step) {
    if (step->n_rows == 0) return ZL_OK;
    if (!step->positions) return zl_fail(ZL_E_ARG, "%s: the step has no positions", op);
    return plane < step->n_planes ? ZL_OK : zl_fail(ZL_E_BOUNDS, "%s: position plane %d of %d", op, plane, step->n_planes);
}

/* ---- tensors ------------------------------------------------------------------------------------------------------------------- */

static int check_cache(int i, const zl_cache *c, zl_limits *limits) {
    if (c->type != ZL_TYPE_F32 && c->type != ZL_TYPE_F16 && c->type != ZL_TYPE_Q8_0)
        return zl_fail(ZL_E_TYPE, "tensor %d: a cache of type %d, want F32, F16 or Q8_0", i, c->type);
    if (c->cls < 0 || c->cls >= ZL_CLASSES) return zl_fail(ZL_E_ARG, "tensor %d: cache class %d of %d", i, c->cls, ZL_CLASSES);
    if (c->n_layer < 1 || c->n_kv < 1 || c->dk < 1 || c->dv < 1 || c->n_pages < 0)
        return zl_fail(ZL_E_SHAPE, "tensor %d: a cache of %d layers, %d heads, %d and %d channels, %d pages", i, c->n_layer, c->n_kv, c->dk,
                       c->dv, c->n_pages);
    if (c->state && (c->type != ZL_TYPE_F32 || c->n_kv != 1))
        return zl_fail(ZL_E_TYPE, "tensor %d: a cache of states of type %d in %d heads, want F32 and 1", i, c->type, c->n_kv);
    if (c->type == ZL_TYPE_Q8_0 && (c->dk % ZL_KV_BLOCK || c->dv % ZL_KV_BLOCK))
        return zl_fail(ZL_E_SHAPE, "tensor %d: a Q8_0 cache has blocks of %d channels, its heads have %d and %d", i, ZL_KV_BLOCK, c->dk, c->dv);
    int64_t d = c->dk > c->dv ? c->dk : c->dv;
    double values = (double)c->n_pages * c->n_layer * c->n_kv * ZL_PAGE * (double)d; /* exact enough to refuse what would overflow */
    if (values > (double)max_values) return zl_fail(ZL_E_SHAPE, "tensor %d: a cache of %.3g values", i, values);
    if (c->n_pages > 0 && (!c->k || !c->v)) return zl_fail(ZL_E_ARG, "tensor %d: a cache without memory", i);
    limits->uses_cache = 1;
    if (c->state) limits->states |= 1u << c->cls;
    int32_t *pages = &limits->class_pages[c->cls];
    if (*pages < 0 || c->n_pages < *pages) *pages = c->n_pages;
    return ZL_OK;
}

/* Its shape is in the weight. x is brought into the form of the context's variant and the panels are of the weight's: both must be one. */
static int check_weight(int i, const zl_weight *w, const zl_kernels *k) {
    if (w->k == k) return ZL_OK;
    return zl_fail(ZL_E_ARG, "tensor %d: a weight for ISA variant %s in a context of %s", i, w->k->isa, k->isa);
}

static int check_tensor(int i, const zl_tensor *t, const zl_kernels *k, int64_t arena_cols, zl_limits *limits) {
    if (t->kind < ZL_ARENA || t->kind > ZL_CACHE) return zl_fail(ZL_E_ARG, "tensor %d: unknown kind %d", i, t->kind);
    if (t->kind != ZL_ARENA && !t->data) return zl_fail(ZL_E_ARG, "tensor %d (%s): data is a null pointer", i, kind_name(t->kind));
    if (t->kind == ZL_WEIGHT) return check_weight(i, t->data, k);
    if (t->kind == ZL_CACHE) return check_cache(i, t->data, limits);
    if (t->cols < 1 || t->cols > MAX_COLS) return zl_fail(ZL_E_SHAPE, "tensor %d: %lld columns, want 1 to %d", i, (long long)t->cols, MAX_COLS);
    if (t->kind == ZL_CONST) {
        if (t->rows < 1 || t->rows > max_values / t->cols)
            return zl_fail(ZL_E_SHAPE, "tensor %d: a constant of (%lld, %lld)", i, (long long)t->rows, (long long)t->cols);
        return ZL_OK;
    }
    if (t->rows_kind != ZL_ROWS_STEP && t->rows_kind != ZL_ROWS_OUT) return zl_fail(ZL_E_ARG, "tensor %d: unknown kind of rows %d", i, t->rows_kind);
    if (t->kind == ZL_ARENA) {
        if (arena_cols == 0) return zl_fail(ZL_E_ARG, "tensor %d: there is no arena", i);
        if (t->offset < 0 || t->offset > arena_cols - t->cols)
            return zl_fail(ZL_E_BOUNDS, "tensor %d: %lld columns from %lld on in an arena of %lld", i, (long long)t->cols,
                           (long long)t->offset, (long long)arena_cols);
    } else {
        if (t->rows < 0) return zl_fail(ZL_E_SHAPE, "tensor %d: room for %lld rows", i, (long long)t->rows);
        if (t->rows < limits->capacity[t->rows_kind]) limits->capacity[t->rows_kind] = t->rows;
    }
    return ZL_OK;
}

/* ---- ops ----------------------------------------------------------------------------------------------------------------------- */

static int check_op(const zl_op *op, const zl_op_def *def, const zl_tensor *tensors, int n_tensors) {
    for (int j = 0; j < 12; j++)
        if (op->in[j] < -1 || op->in[j] >= n_tensors) return zl_fail(ZL_E_BOUNDS, "in[%d] is tensor %d of %d", j, op->in[j], n_tensors);
    for (int j = 0; j < 4; j++) {
        if (op->out[j] < -1 || op->out[j] >= n_tensors) return zl_fail(ZL_E_BOUNDS, "out[%d] is tensor %d of %d", j, op->out[j], n_tensors);
        if (op->out[j] >= 0 && tensors[op->out[j]].kind != ZL_ARENA && tensors[op->out[j]].kind != ZL_EXTERNAL)
            return zl_fail(ZL_E_ARG, "out[%d] is a %s tensor, which is only read", j, kind_name(tensors[op->out[j]].kind));
    }
    return def->check(op, tensors);
}

/* Says which op of the list it was; the op's own text follows. */
static int fail_in_op(int status, int i, const zl_op_def *def) { return zl_fail(status, "op %d (%s): %s", i, def->name, zl_error()); }

/* What the ops do with the classes. One of which they only see a memory has no place for the step's own rows; one with states has: every step
 * writes them. */
static void note_classes(const zl_op *ops, int n_ops, const zl_tensor *tensors, zl_limits *limits) {
    unsigned memory = 0, seen = 0;
    limits->written = limits->states;
    for (int i = 0; i < n_ops; i++) {
        const int store = ops[i].code == ZL_OP_KV_STORE;
        if (!store && ops[i].code != ZL_OP_ATTENTION) continue;
        const unsigned bit = 1u << ((const zl_cache *)tensors[ops[i].in[store ? 2 : 1]].data)->cls;
        if (store) limits->written |= bit;
        else if (ops[i].ip[3]) memory |= bit;
        else seen |= bit;
    }
    limits->uses_memory = memory != 0;
    for (int c = 0; c < ZL_CLASSES; c++)
        if (memory & ~(limits->written | seen) & 1u << c) limits->class_pages[c] = -1;
}

/* Everything that needs no step. Fills defs (n_ops of them) and limits. */
static int check_all(const zl_kernels *k, const zl_op *ops, int n_ops, const zl_tensor *tensors, int n_tensors, int64_t arena_cols,
                     int64_t max_rows, const zl_op_def **defs, zl_limits *limits) {
    *limits = (zl_limits){.capacity = {max_rows, max_rows}};
    for (int c = 0; c < ZL_CLASSES; c++) limits->class_pages[c] = -1;
    for (int i = 0; i < n_tensors; i++) {
        int status = check_tensor(i, &tensors[i], k, arena_cols, limits);
        if (status) return status;
    }
    for (int i = 0; i < n_ops; i++) {
        const zl_op_def *def = zl_op_find(ops[i].code);
        if (!def) return zl_fail(ZL_E_ARG, "op %d: unknown opcode %d", i, ops[i].code);
        int status = check_op(&ops[i], def, tensors, n_tensors);
        if (status) return fail_in_op(status, i, def);
        defs[i] = def;
    }
    note_classes(ops, n_ops, tensors, limits);
    return ZL_OK;
}

static int check_lists(const char *what, const zl_op *ops, int n_ops, const zl_tensor *tensors, int n_tensors) {
    if (n_ops < 0 || n_ops > MAX_OPS || n_tensors < 0 || n_tensors > MAX_TENSORS)
        return zl_fail(ZL_E_ARG, "%s: %d ops, %d tensors", what, n_ops, n_tensors);
    if ((n_ops && !ops) || (n_tensors && !tensors)) return zl_fail(ZL_E_ARG, "%s: a null pointer", what);
    return ZL_OK;
}

/* Room for the scratch of the greediest op with `rows` rows. */
static int reserve(zl_ctx *ctx, const zl_op *ops, const zl_op_def **defs, int n_ops, const zl_tensor *tensors, int64_t rows) {
    int64_t shared = 0, private_ = 0;
    for (int i = 0; i < n_ops; i++) {
        if (!defs[i]->scratch) continue;
        int64_t s = 0, p = 0;
        defs[i]->scratch(ctx, &ops[i], tensors, rows, &s, &p);
        if (s > shared) shared = s;
        if (p > private_) private_ = p;
    }
    return shared || private_ ? zl_ctx_scratch(ctx, shared, private_) : ZL_OK;
}

/* ---- a run ---------------------------------------------------------------------------------------------------------------------- */

/* Whether a mapping that this run may have read has lost pages. One load as long as none ever did. */
static int check_faults(const zl_tensor *tensors, int n_tensors) {
    for (int i = 0; i < n_tensors; i++) {
        const zl_tensor *t = &tensors[i];
        int status = ZL_OK;
        if (t->kind == ZL_CONST || t->kind == ZL_EXTERNAL) status = zl_guard_check(t->data, t->rows * t->cols * 4);
        if (t->kind == ZL_WEIGHT) {
            const zl_weight *w = t->data;
            if (w->mapped) status = zl_guard_check(w->data, w->stack * w->rows * w->row_bytes);
        }
        if (status) return status;
    }
    return ZL_OK;
}

static int64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The ops with the clock read at their borders, once for the end of one and the beginning of the next: no time falls between two ops. A loop
 * of its own, so that a run that nobody times pays for one comparison in all. */
static void run_timed(zl_run_state *r, const zl_op *ops, const zl_op_def **defs, int n_ops) {
    int64_t before = nanoseconds();
    for (int i = 0; i < n_ops; i++) {
        defs[i]->run(r, &ops[i]);
        int64_t after = nanoseconds();
        r->times[i].calls++, r->times[i].nanoseconds += after - before;
        before = after;
    }
}

static int run_all(zl_run_state *r, const zl_op *ops, const zl_op_def **defs, int n_ops, int n_tensors, const zl_limits *limits) {
    int status = zl_check_step(limits, r->step);
    for (int i = 0; i < n_ops && !status; i++) {
        if (!defs[i]->check_step) continue;
        status = defs[i]->check_step(&ops[i], r->tensors, r->step);
        if (status) fail_in_op(status, i, defs[i]);
    }
    if (!status) {
        int64_t rows = r->step->n_rows > r->step->n_out ? r->step->n_rows : r->step->n_out;
        status = reserve(r->ctx, ops, defs, n_ops, r->tensors, rows);
        if (r->stride) *r->stride = r->rows = rows;
    }
    if (status) return status;
    r->k = r->ctx->kernels;
    r->shared = r->ctx->scratch;
    r->private_ = r->ctx->private_;
    if (r->times && atomic_load_explicit(&r->ctx->time_ops, memory_order_relaxed)) run_timed(r, ops, defs, n_ops);
    else
        for (int i = 0; i < n_ops; i++) defs[i]->run(r, &ops[i]);
    atomic_fetch_add_explicit(&r->ctx->runs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->ctx->ops, n_ops, memory_order_relaxed);
    return zl_any_fault() ? check_faults(r->tensors, n_tensors) : ZL_OK;
}

int zl_run(zl_ctx *ctx, const zl_op *ops, int n_ops, const zl_tensor *tensors, int n_tensors, const zl_step *step) {
    enum { FEW = 32 };
    zl_entry entry;
    int status = zl_enter(ctx, "zl_run", &entry);
    if (status) return status;
    const zl_op_def *few[FEW], **defs = few;
    zl_limits limits;
    status = check_lists("zl_run", ops, n_ops, tensors, n_tensors);
    if (!status && n_ops > FEW && !(defs = malloc((size_t)n_ops * sizeof *defs))) status = zl_fail(ZL_E_MEMORY, "zl_run needs %zu bytes", (size_t)n_ops * sizeof *defs);
    if (!status) status = check_all(ctx->kernels, ops, n_ops, tensors, n_tensors, 0, INT32_MAX, defs, &limits);
    if (!status) {
        zl_run_state run = {.ctx = ctx, .tensors = tensors, .step = step};
        status = run_all(&run, ops, defs, n_ops, n_tensors, &limits);
    }
    if (defs != few) free(defs);
    return zl_leave(&entry, status);
}

/* ---- programs -------------------------------------------------------------------------------------------------------------------- */

static int build(zl_program *p, const zl_op *ops, const zl_tensor *tensors, int64_t arena_cols) {
    p->ops = malloc(((size_t)p->n_ops + 1) * sizeof *p->ops);
    p->defs = malloc(((size_t)p->n_ops + 1) * sizeof *p->defs);
    p->tensors = malloc(((size_t)p->n_tensors + 1) * sizeof *p->tensors);
    p->times = calloc((size_t)p->n_ops + 1, sizeof *p->times);
    if (!p->ops || !p->defs || !p->tensors || !p->times)
        return zl_fail(ZL_E_MEMORY, "zl_program_new needs %zu bytes", (size_t)p->n_ops * sizeof *ops + (size_t)p->n_tensors * sizeof *tensors);
    if (p->n_ops) memcpy(p->ops, ops, (size_t)p->n_ops * sizeof *ops);
    if (p->n_tensors) memcpy(p->tensors, tensors, (size_t)p->n_tensors * sizeof *tensors);
    int status = check_all(p->ctx->kernels, p->ops, p->n_ops, p->tensors, p->n_tensors, arena_cols, p->max_rows, p->defs, &p->limits);
    if (!status) status = reserve(p->ctx, p->ops, p->defs, p->n_ops, p->tensors, p->max_rows); /* so that no run has to allocate */
    if (status) return status;
    p->arena_bytes = arena_cols * p->max_rows * (int64_t)sizeof(float);
    return p->arena_bytes ? zl_alloc(p->arena_bytes, (void **)&p->arena) : ZL_OK;
}

int zl_program_new(zl_ctx *ctx, const zl_op *ops, int n_ops, const zl_tensor *tensors, int n_tensors, int64_t arena_cols, int max_rows,
                   zl_program **out) {
    if (!out) return zl_fail(ZL_E_ARG, "zl_program_new: out is a null pointer");
    *out = NULL;
    int status = check_lists("zl_program_new", ops, n_ops, tensors, n_tensors);
    if (status) return status;
    if (max_rows < 1 || max_rows > MAX_ROWS) return zl_fail(ZL_E_ARG, "zl_program_new: max_rows is %d, want 1 to %d", max_rows, MAX_ROWS);
    if (arena_cols < 0 || arena_cols > max_arena_cols) return zl_fail(ZL_E_ARG, "zl_program_new: an arena of %lld columns", (long long)arena_cols);
    zl_entry entry;
    status = zl_enter(ctx, "zl_program_new", &entry);
    if (status) return status;
    zl_program *p = calloc(1, sizeof *p);
    if (!p) return zl_leave(&entry, zl_fail(ZL_E_MEMORY, "zl_program_new needs %zu bytes", sizeof *p));
    p->ctx = ctx, p->n_ops = n_ops, p->n_tensors = n_tensors, p->max_rows = p->stride = max_rows;
    status = build(p, ops, tensors, arena_cols);
    if (status) zl_program_free(p);
    else *out = p;
    return zl_leave(&entry, status);
}

void zl_program_free(zl_program *p) {
    if (!p) return;
    zl_release(p->arena, p->arena_bytes);
    free(p->ops), free(p->defs), free(p->tensors), free(p->times), free(p);
}

int zl_program_run(zl_program *p, const zl_step *step) {
    if (!p) return zl_fail(ZL_E_ARG, "zl_program_run: program is a null pointer");
    zl_entry entry;
    int status = zl_enter(p->ctx, "zl_program_run", &entry);
    if (status) return status;
    zl_run_state run = {.ctx = p->ctx, .tensors = p->tensors, .step = step, .arena = p->arena, .stride = &p->stride, .times = p->times};
    status = run_all(&run, p->ops, p->defs, p->n_ops, p->n_tensors, &p->limits);
    if (!status) atomic_fetch_add_explicit(&p->ctx->program_runs, 1, memory_order_relaxed);
    return zl_leave(&entry, status);
}

/* ---- several runs in a row --------------------------------------------------------------------------------------------------------- */

/* The step of one run, and the arrays of it that change from run to run, which are ours: n_rows each of tokens, cache_pos and see_to,
 * then the planes of positions. */
typedef struct {
    zl_step step;
    int32_t *own;
} moving_step;

static int check_ahead(const zl_program *p, const zl_step *s, int n, const int32_t *ends, int n_ends, const int32_t *ids, const int *ran) {
    if (!p || !s || !ids || !ran || (n_ends > 0 && !ends)) return zl_fail(ZL_E_ARG, "zl_program_run_ahead: a null pointer");
    if (n < 1 || n_ends < 0) return zl_fail(ZL_E_ARG, "zl_program_run_ahead: %d runs, %d end tokens", n, n_ends);
    if (p->n_ops == 0 || p->ops[p->n_ops - 1].code != ZL_OP_TOP_K || s->skip_top_k)
        return zl_fail(ZL_E_ARG, "zl_program_run_ahead: the last op is not top_k, or the step skips it");
    if (s->mask) return zl_fail(ZL_E_ARG, "zl_program_run_ahead: masks are for one run");
    if (p->limits.uses_memory) return zl_fail(ZL_E_ARG, "zl_program_run_ahead: a plane of positions that ends a memory would move on");
    if (p->limits.states) return zl_fail(ZL_E_ARG, "zl_program_run_ahead: the page that a state goes on from would stay the first run's");
    int status = zl_check_step(&p->limits, s);
    if (status) return status;
    if (s->n_rows < 1 || s->n_rows != s->n_out || !s->tokens || !s->cache_pos || !s->see_to || !s->seq || !s->out_rows || (s->n_planes && !s->positions))
        return zl_fail(ZL_E_SHAPE, "zl_program_run_ahead: %d rows of which %d are wanted, or an array of the step is missing", s->n_rows, s->n_out);
    for (int t = 0; t < s->n_rows; t++) {
        if (s->out_rows[t] != t) return zl_fail(ZL_E_ARG, "zl_program_run_ahead: wanted row %d is row %d of the step", t, s->out_rows[t]);
        if (t && s->seq[t] == s->seq[t - 1]) return zl_fail(ZL_E_ARG, "zl_program_run_ahead: rows %d and %d are of sequence %d", t - 1, t, s->seq[t]);
    }
    return ZL_OK;
}

static int move_in(moving_step *m, const zl_step *s) {
    const size_t rows = (size_t)s->n_rows, bytes = rows * 4, planes = (size_t)s->n_planes;
    if (!(m->own = malloc((3 + planes) * bytes))) return zl_fail(ZL_E_MEMORY, "zl_program_run_ahead needs %zu bytes", (3 + planes) * bytes);
    m->step = *s;
    m->step.tokens = memcpy(m->own, s->tokens, bytes);
    m->step.cache_pos = memcpy(m->own + rows, s->cache_pos, bytes);
    m->step.see_to = memcpy(m->own + 2 * rows, s->see_to, bytes);
    if (planes) m->step.positions = memcpy(m->own + 3 * rows, s->positions, planes * bytes);
    return ZL_OK;
}

int zl_program_run_ahead(zl_program *p, const zl_step *step, int n, const int32_t *ends, int n_ends, int32_t *ids, int *ran) {
    moving_step m;
    int status = check_ahead(p, step, n, ends, n_ends, ids, ran);
    if (!status) status = move_in(&m, step);
    if (status) return status;
    const int rows = step->n_rows, *out = p->ops[p->n_ops - 1].out;
    const int64_t k = p->tensors[out[0]].cols;
    int done = 0;
    *ran = 0;
    for (int i = 0; i < n && !done; i++, ids += rows) {
        if ((status = zl_program_run(p, &m.step))) break;
        const float *best = zl_program_tensor(p, out[0]), *id = zl_program_tensor(p, out[1]);
        for (int t = 0; t < rows; t++) {
            memcpy(&ids[t], id + t * k, 4);
            if (!__builtin_isfinite(best[t * k])) goto end;
            for (int e = 0; e < n_ends; e++) done |= ids[t] == ends[e];
        }
        *ran = i + 1;
        memcpy(m.own, ids, (size_t)rows * 4);
        for (int j = rows; j < (3 + step->n_planes) * rows; j++) m.own[j] = (int32_t)((uint32_t)m.own[j] + 1);
    }
end:
    free(m.own);
    return status;
}

int zl_program_times(const zl_program *p, zl_op_time *out, int n) {
    if (!p || !out) return zl_fail(ZL_E_ARG, "zl_program_times: a null pointer");
    if (n != p->n_ops) return zl_fail(ZL_E_SHAPE, "zl_program_times: room for %d ops, the program has %d", n, p->n_ops);
    if (n) memcpy(out, p->times, (size_t)n * sizeof *out);
    return ZL_OK;
}

float *zl_program_tensor(zl_program *p, int i) {
    if (!p || i < 0 || i >= p->n_tensors) {
        zl_fail(ZL_E_ARG, "zl_program_tensor: tensor %d of %d", i, p ? p->n_tensors : 0);
        return NULL;
    }
    const zl_tensor *t = &p->tensors[i];
    if (t->kind == ZL_ARENA) return p->arena + t->offset * p->stride;
    return t->kind == ZL_EXTERNAL || t->kind == ZL_CONST ? t->data : NULL;
}
