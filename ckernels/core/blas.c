/* blas.c - a BLAS library, linked into this one or loaded while it runs: finding its sgemm, calling it, keeping its threads out of the way.
 *
 * What it is not: the choice of a library. Which file it is, is the caller's business; here it is opened, or there is an error.
 *
 * One routine under many names.    [scipy_] cblas_sgemm [64_ | _64]      C, any order of storage
 *                                  [scipy_] sgemm_ [64_], sgemm_64      Fortran, columns first: it is given the transposed product
 * `scipy_` is the prefix of the builds on PyPI. 64_ (OpenBLAS) and _64 (MKL, and the reference BLAS) mark integers of 64 bits; some builds
 * have them without saying so in the name, and are asked: OpenBLAS tells it in its configuration, BLIS by a function.
 *
 * Threads. Our pool calls the library from all its threads at once, so the library must not start threads of its own in a call. There are
 * two kinds of knobs, and a library may have one of each:
 *
 *      of the process    openblas_set_num_threads, bli_thread_set_num_threads, BLASSetThreading (Accelerate, where 1 means single threaded)
 *      of the thread     MKL_Set_Num_Threads_Local, omp_set_num_threads (builds over OpenMP)
 *
 * The first kind is turned to 1 when the first context begins a stage and back when the last one ends, so that contexts in several threads
 * do not restore each other's 1. The second kind is turned around each call. openblas_set_num_threads_local is not used: in builds over
 * pthreads it turns the whole process's knob, and several threads that save and restore that one leave it at 1.
 * In some BLIS builds the knob of the first kind belongs to the thread after all: a thread that finds it at another number than 1 turns it
 * for its own call. And in an OpenBLAS over OpenMP it turns the caller's knob of the second kind along; that is put back, too.
 */
#include "blas.h"
#include "ctx.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a library is ------------------------------------------------------------------------------------------------------------ */

enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 }; /* CBLAS's own numbers */

typedef void cblas32(int order, int ta, int tb, int32_t m, int32_t n, int32_t k, float alpha, const float *a, int32_t lda, const float *b,
                     int32_t ldb, float beta, float *c, int32_t ldc);
typedef void cblas64(int order, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda, const float *b,
                     int64_t ldb, float beta, float *c, int64_t ldc);
/* Fortran takes pointers. They point to 64 bits here, whose lower half comes first: a library of 32-bit integers reads that. The two last
 * are the lengths of the two texts, which Fortran compilers add. */
typedef void fortran(const char *ta, const char *tb, const int64_t *m, const int64_t *n, const int64_t *k, const float *alpha, const float *a,
                     const int64_t *lda, const float *b, const int64_t *ldb, const float *beta, float *c, const int64_t *ldc, size_t, size_t);

typedef void (*any)(void); /* a function of whatever type */

typedef struct {
    const char *name;          /* of `set`, or NULL where the library has no such knob            */
    any get, set;
    int wide;                  /* its numbers are int64_t (BLIS), not int                        */
} knob;

/* A knob of the process, which two libraries may share: libblas.so.3 is often a thin cover of another that is opened, too. */
typedef struct shared {
    knob knob;
    int users, saved;          /* stages that run now; what it stood at before them. Under `lock` */
    struct shared *next;
} shared;

struct zl_blas {
    void *handle;              /* of dlopen                                                      */
    zl_blas *next;             /* in `opened`                                                    */
    any sgemm;
    int is_fortran, int_bits;
    shared *process;           /* NULL: has none                                                 */
    knob thread;               /* `get` is NULL for MKL, whose `set` returns the number it replaces */
    char symbol[32];
    char file[256];
    char version[128];
};

/* A library that was opened once stays: to unload code that may have started threads is not safe. So there is one entry per library, and
 * a pointer to it is good for as long as the process lives. */
static zl_blas *opened;
static shared *knobs;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- knobs ------------------------------------------------------------------------------------------------------------------------ */

static int knob_get(const knob *k) { return k->wide ? (int)((int64_t (*)(void))k->get)() : ((int (*)(void))k->get)(); }
static int knob_set(const knob *k, int n) { /* gives MKL's return value; of the others it means nothing */
    if (!k->wide) return ((int (*)(int))k->set)(n);
    ((void (*)(int64_t))k->set)(n);
    return 0;
}

static any find(void *handle, const char *name) {
    void *p = dlsym(handle, name);
    any f;
    memcpy(&f, &p, sizeof f); /* ISO C has no cast from an object's address to a function's */
    return f;
}

/* A function of an OpenBLAS, whose names carry the same prefix and suffix as its sgemm. */
static any find_decorated(void *handle, const char *name) {
    static const char *const prefixes[] = {"", "scipy_"}, *const suffixes[] = {"", "64_", "_64"};
    char full[64];
    for (int p = 0; p < 2; p++) {
        for (int s = 0; s < 3; s++) {
            snprintf(full, sizeof full, "%s%s%s", prefixes[p], name, suffixes[s]);
            any f = find(handle, full);
            if (f) return f;
        }
    }
    return NULL;
}

/* The entry of a knob of the process, made when it is seen for the first time; NULL where memory is out. Under the lock. */
static shared *share(const knob *k) {
    for (shared *s = knobs; s; s = s->next)
        if (s->knob.set == k->set) return s;
    shared *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->knob = *k, s->next = knobs;
    return knobs = s;
}

static int find_knobs(zl_blas *b) {
    static const struct {
        const char *get, *set;
        int wide;
    } process[] = {{"openblas_get_num_threads", "openblas_set_num_threads", 0},
                   {"bli_thread_get_num_threads", "bli_thread_set_num_threads", 1},
                   {"BLASGetThreading", "BLASSetThreading", 0}};
    void *h = b->handle;
    for (size_t i = 0; i < sizeof process / sizeof process[0] && !b->process; i++) {
        const knob k = {process[i].set, find_decorated(h, process[i].get), find_decorated(h, process[i].set), process[i].wide};
        if (k.get && k.set && !(b->process = share(&k))) return zl_fail(ZL_E_MEMORY, "zl_blas_open needs %zu bytes", sizeof(shared));
    }
    any mkl = find(h, "MKL_Set_Num_Threads_Local"), get = find(h, "omp_get_max_threads"), set = find(h, "omp_set_num_threads");
    if (mkl) b->thread = (knob){"MKL_Set_Num_Threads_Local", NULL, mkl, 0};
    else if (get && set) b->thread = (knob){"omp_set_num_threads", get, set, 0};
    return ZL_OK;
}

enum { LEAVE = INT_MIN };
/* Turns a knob to 1 for this thread; gives the number for `let_go`: what it stood at, or LEAVE where it was 1 or is no knob. */
static int hold(const knob *k) {
    if (!k->set) return LEAVE;
    if (!k->get) return knob_set(k, 1); /* 0: as the process has it */
    const int before = knob_get(k);
    if (before == 1) return LEAVE;
    knob_set(k, 1);
    return before;
}
static void let_go(const knob *k, int before) {
    if (before != LEAVE) knob_set(k, before);
}

void zl_blas_begin(zl_ctx *ctx) {
    if (!ctx->blas) return;
    shared *s = ctx->blas->process;
    ctx->blas_thread = hold(&ctx->blas->thread); /* the caller's own: to be put back after the process's */
    if (!s) return;
    pthread_mutex_lock(&lock);
    if (s->users++ == 0) s->saved = hold(&s->knob);
    pthread_mutex_unlock(&lock);
}

void zl_blas_end(zl_ctx *ctx) {
    if (!ctx->blas) return;
    shared *s = ctx->blas->process;
    if (s) {
        pthread_mutex_lock(&lock);
        if (--s->users == 0) let_go(&s->knob, s->saved);
        pthread_mutex_unlock(&lock);
    }
    let_go(&ctx->blas->thread, ctx->blas_thread);
}

/* ---- the product ------------------------------------------------------------------------------------------------------------------ */

void zl_blas_sgemm(zl_ctx *ctx, int transposed, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                   float *c, int64_t ldc) {
    const zl_blas *l = ctx->blas;
    const float one = 1, zero = 0; /* with a beta of 0 the old c is not read */
    const knob none = {NULL, NULL, NULL, 0}, *knob_of_process = l->process ? &l->process->knob : &none;
    const int process = hold(knob_of_process), thread = hold(&l->thread);
    if (l->is_fortran) { /* what is (m, n) row by row is (n, m) column by column: c^T = b^T a^T, with the operands' places exchanged */
        ((fortran *)l->sgemm)(transposed ? "T" : "N", "N", &n, &m, &k, &one, b, &ldb, a, &lda, &zero, c, &ldc, 1, 1);
    } else {
        const int tb = transposed ? TRANSPOSED : PLAIN;
        if (l->int_bits == 64) ((cblas64 *)l->sgemm)(ROW_MAJOR, PLAIN, tb, m, n, k, one, a, lda, b, ldb, zero, c, ldc);
        else
            ((cblas32 *)l->sgemm)(ROW_MAJOR, PLAIN, tb, (int32_t)m, (int32_t)n, (int32_t)k, one, a, (int32_t)lda, b, (int32_t)ldb, zero, c,
                                  (int32_t)ldc);
    }
    let_go(&l->thread, thread);
    let_go(knob_of_process, process);
    atomic_fetch_add_explicit(&ctx->blas_calls, 1, memory_order_relaxed);
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------------- */

/* Names of sgemm. Those that say how wide their integers are come first: MKL has both, and what its bare name takes depends on the
 * environment. */
static const struct {
    const char *name;
    int is_fortran, int_bits;  /* 0: the name does not say */
} names[] = {{"cblas_sgemm64_", 0, 64}, {"cblas_sgemm_64", 0, 64}, {"cblas_sgemm", 0, 0},
             {"sgemm_64_", 1, 64},      {"sgemm_64", 1, 64},       {"sgemm_", 1, 0}};

static int find_sgemm(zl_blas *b) {
    static const char *const prefixes[] = {"", "scipy_"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        for (int p = 0; p < 2; p++) {
            snprintf(b->symbol, sizeof b->symbol, "%s%s", prefixes[p], names[i].name);
            if (!(b->sgemm = find(b->handle, b->symbol))) continue;
            b->is_fortran = names[i].is_fortran, b->int_bits = names[i].int_bits;
            return 1;
        }
    }
    return 0;
}

static void copy(char *to, size_t room, const char *from) { snprintf(to, room, "%s", from ? from : ""); }

/* What the library says of itself: its version, and how wide its integers are where the name of its sgemm did not tell. */
static void ask(zl_blas *b) {
    any config = find_decorated(b->handle, "openblas_get_config"), mkl = find(b->handle, "MKL_Get_Version_String");
    any blis = find(b->handle, "bli_info_get_version_str"), width = find(b->handle, "bli_info_get_blas_int_type_size");
    const char *said = config ? ((const char *(*)(void))config)() : NULL;
    if (said) copy(b->version, sizeof b->version, said);
    else if (mkl) ((void (*)(char *, int))mkl)(b->version, (int)sizeof b->version - 1); /* padded with blanks, not ended by a 0 */
    else if (blis) snprintf(b->version, sizeof b->version, "BLIS %s", ((const char *(*)(void))blis)());
    for (size_t n = strlen(b->version); n && b->version[n - 1] == ' '; n--) b->version[n - 1] = 0;
    if (b->int_bits) return;
    b->int_bits = 32;
    if (said && strstr(said, "USE64BITINT")) b->int_bits = 64;
    if (width && ((int64_t (*)(void))width)() == 64) b->int_bits = 64;
}

static void locate(zl_blas *b) {
    Dl_info at;
    void *p;
    memcpy(&p, &b->sgemm, sizeof p);
    if (dladdr(p, &at)) copy(b->file, sizeof b->file, at.dli_fname);
}

static zl_blas *known(void *handle) {
    for (zl_blas *b = opened; b; b = b->next)
        if (b->handle == handle) return b;
    return NULL;
}

/* Under the lock. *out is set when all is well. */
static int open_library(const char *path, zl_blas **out) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) return zl_fail(ZL_E_BLAS, "%s", dlerror());
    if ((*out = known(handle))) return ZL_OK;
    zl_blas *b = calloc(1, sizeof *b);
    if (!b) return zl_fail(ZL_E_MEMORY, "zl_blas_open needs %zu bytes", sizeof *b);
    b->handle = handle;
    int status = ZL_OK;
    if (!find_sgemm(b)) status = zl_fail(ZL_E_BLAS, "%s: neither cblas_sgemm nor sgemm_ is in it, under any name that is known", path);
    if (!status) status = find_knobs(b);
    if (status) {
        free(b);
        return status;
    }
    ask(b), locate(b);
    b->next = opened;
    *out = opened = b;
    return ZL_OK;
}

#ifdef ZL_BLAS_LINKED
/* The build linked a library (meson.options) and found what its sgemm is called. Its other functions are looked up where this one's own
 * dependencies are. */
#define TEXT(x) TEXT_(x)
#define TEXT_(x) #x
extern void ZL_BLAS_SGEMM(void);
const char *zl_blas_linked(void) { return TEXT(ZL_BLAS_LINKED); }
static int open_linked(zl_blas **out) {
    static zl_blas linked;
    if (!linked.sgemm) {
        linked.handle = RTLD_DEFAULT, linked.sgemm = ZL_BLAS_SGEMM;
        copy(linked.symbol, sizeof linked.symbol, TEXT(ZL_BLAS_SGEMM));
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            const char *bare = strncmp(linked.symbol, "scipy_", 6) ? linked.symbol : linked.symbol + 6;
            if (!strcmp(bare, names[i].name)) linked.is_fortran = names[i].is_fortran, linked.int_bits = names[i].int_bits;
        }
        const int status = find_knobs(&linked);
        if (status) {
            linked.sgemm = NULL;
            return status;
        }
        ask(&linked), locate(&linked);
    }
    *out = &linked;
    return ZL_OK;
}
#else
const char *zl_blas_linked(void) { return NULL; }
static int open_linked(zl_blas **out) {
    (void)out;
    return zl_fail(ZL_E_BLAS, "no BLAS library is linked in this build (blas=none)");
}
#endif

int zl_blas_open(const char *path, zl_blas **out) {
    if (!out) return zl_fail(ZL_E_ARG, "zl_blas_open: out is a null pointer");
    *out = NULL;
    if (path && !strchr(path, '/')) return zl_fail(ZL_E_ARG, "zl_blas_open: '%.64s' is no path", path);
    pthread_mutex_lock(&lock);
    int status = path ? open_library(path, out) : open_linked(out);
    pthread_mutex_unlock(&lock);
    return status;
}

int zl_blas_describe(const zl_blas *b, zl_blas_info *out) {
    if (!b || !out) return zl_fail(ZL_E_ARG, "zl_blas_describe: a null pointer");
    *out = (zl_blas_info){b->file, b->symbol, b->version, b->process ? b->process->knob.name : "", b->thread.name ? b->thread.name : "", b->int_bits};
    return ZL_OK;
}

int zl_ctx_set_blas(zl_ctx *ctx, zl_blas *blas) {
    zl_entry entry;
    int status = zl_enter(ctx, "zl_ctx_set_blas", &entry);
    if (status) return status;
    ctx->blas = blas;
    return zl_leave(&entry, ZL_OK);
}
