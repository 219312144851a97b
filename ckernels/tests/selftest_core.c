/* selftest_core.c - context, errors, memory, and the guard around mapped files. What runs on them is in selftest_program.c. */
#include "../core/ctx.h"
#include "selftest.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures;

/* The sanitizers need the address space and the signal handlers themselves: what is about those is left out under them. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

/* ---- context ------------------------------------------------------------------------------------------------------------------ */

static void test_context(zl_ctx *ctx) {
    zl_ctx *made = (zl_ctx *)&failures;
    zl_counters counters;
    CHECK(zl_ctx_new(0, NULL, NULL, &made) == ZL_E_ARG && !made, "0 threads are refused and out is NULL");
    CHECK(zl_ctx_new(ZL_MAX_THREADS + 1, NULL, NULL, &made) == ZL_E_ARG && strstr(zl_error(), "513"), "513 threads are refused");
    CHECK(zl_ctx_new(1, NULL, NULL, NULL) == ZL_E_ARG, "no place for the result");
    CHECK(zl_ctx_new(1, "avx", NULL, &made) == ZL_E_ISA && strstr(zl_error(), "'avx'"), "an unknown ISA variant");
    CHECK(zl_ctx_new(1, "", NULL, &made) == ZL_E_ISA, "an empty ISA variant");
#if defined(__x86_64__)
    CHECK(zl_ctx_new(1, "neon", NULL, &made) == ZL_E_ISA_CPU && strstr(zl_error(), "neon") && strstr(zl_error(), "best"), "neon on x86");
#else
    CHECK(zl_ctx_new(1, "avx2", NULL, &made) == ZL_E_ISA_CPU && strstr(zl_error(), "avx2") && strstr(zl_error(), "best"), "avx2 elsewhere");
#endif
    int best = 0;
    while (!zl_isa_usable(best)) best++;
    for (int i = 0; i < zl_isa_count(); i++) {
        int status = zl_ctx_new(1, zl_isa_name(i), NULL, &made);
        CHECK(status == (zl_isa_usable(i) ? ZL_OK : ZL_E_ISA_CPU), "%s: status %d", zl_isa_name(i), status);
        if (made) CHECK(!strcmp(zl_ctx_isa(made), zl_isa_name(i)), "asked for %s, got %s", zl_isa_name(i), zl_ctx_isa(made));
        zl_ctx_free(made);
    }
    for (int i = 0; i < 2; i++) {
        CHECK(zl_ctx_new(1, i ? "auto" : NULL, NULL, &made) == ZL_OK, "auto");
        CHECK(!strcmp(zl_ctx_isa(made), zl_isa_name(best)), "auto is %s, the best is %s", zl_ctx_isa(made), zl_isa_name(best));
        zl_ctx_free(made);
    }
    CHECK(!strcmp(zl_isa_name(zl_isa_count() - 1), "generic") && zl_isa_usable(zl_isa_count() - 1), "generic comes last and always runs");
    CHECK(!zl_isa_name(-1) && !zl_isa_name(zl_isa_count()) && !zl_isa_usable(-1) && !zl_isa_usable(99), "no variants outside the list");
    CHECK(!zl_kernel_name(-1) && !zl_kernel_name(zl_kernel_count()) && !zl_kernel_variant(ctx, zl_kernel_count()), "no kernels outside");
    CHECK(zl_kernel_count() > 0, "there are kernels");
    for (int i = 0; i < zl_kernel_count(); i++)
        CHECK(strlen(zl_kernel_name(i)) > 0 && !strcmp(zl_kernel_variant(ctx, i), zl_ctx_isa(ctx)), "kernel %d", i);
    CHECK(zl_ctx_counters(NULL, &counters) == ZL_E_ARG && zl_ctx_counters(ctx, NULL) == ZL_E_ARG, "counters of nothing");
    CHECK(zl_ctx_stall(NULL, 0, 0) == ZL_E_ARG && zl_ctx_stall(ctx, -1, 0) == ZL_E_ARG &&
              zl_ctx_stall(ctx, zl_ctx_threads(ctx), 0) == ZL_E_ARG && zl_ctx_stall(ctx, 0, -1) == ZL_E_ARG, "stall out of range");
    CHECK(!zl_ctx_isa(NULL) && zl_ctx_threads(NULL) == 0, "questions to nothing");
    zl_ctx_free(NULL);
}

/* Threads that the system refuses: the context is not made, and those that had started are gone. */
static void test_no_threads(void) {
    if (SANITIZED) return;
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {(rlim_t)600 << 20, (rlim_t)600 << 20}; /* room for some stacks of 8 MiB, not for 500 */
        zl_ctx *made = NULL;
        setrlimit(RLIMIT_AS, &limit);
        void *room = mmap(NULL, (size_t)700 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room != MAP_FAILED) _exit(0); /* qemu-user takes the limit and does not keep it: nothing to see there */
        int status = zl_ctx_new(500, NULL, NULL, &made);
        _exit(status == ZL_E_THREAD && !made ? 0 : 10 + status);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "starting 500 threads in 600 MB ended with %d", status);
}

static void nested(void *arg, int64_t chunk, int thread) {
    zl_entry e;
    (void)thread;
    ((int *)arg)[chunk] = zl_enter(((zl_ctx **)arg)[8], "nested", &e);
}

static void test_busy(zl_ctx *ctx) {
    zl_entry e, again;
    CHECK(zl_enter(NULL, "selftest", &e) == ZL_E_ARG, "no context");
    CHECK(zl_enter(ctx, "selftest", &e) == ZL_OK, "enter");
    CHECK(zl_enter(ctx, "selftest", &again) == ZL_E_BUSY && strstr(zl_error(), "itself"), "entered twice by one thread");
    CHECK(zl_run(ctx, NULL, 0, NULL, 0, NULL) == ZL_E_BUSY, "zl_run inside a call");
    struct {
        int status[16];
        zl_ctx *ctx;
    } from_chunks = {.ctx = ctx};
    zl_parallel(ctx, 16, nested, &from_chunks);
    for (int i = 0; i < 16; i++) CHECK(from_chunks.status[i] == ZL_E_BUSY, "chunk %d could enter: %d", i, from_chunks.status[i]);
    zl_leave(&e, ZL_OK);
    CHECK(zl_enter(ctx, "selftest", &e) == ZL_OK, "enter after leaving");
    zl_leave(&e, ZL_OK);
}

static void test_fork(zl_ctx *ctx) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        zl_entry e;
        int refused = zl_enter(ctx, "child", &e) == ZL_E_FORK && zl_run(ctx, NULL, 0, NULL, 0, NULL) == ZL_E_FORK;
        refused &= zl_ctx_threads(ctx) < 2 || zl_ctx_pin(ctx, 1, 0) == ZL_E_FORK;
        zl_ctx_free(ctx); /* must not wait for threads that do not exist here */
        zl_ctx *own = NULL;
        int works = zl_ctx_new(1, NULL, NULL, &own) == ZL_OK && zl_enter(own, "child", &e) == ZL_OK;
        _exit(!(refused && works));
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %d", status);
}

/* ---- memory ---------------------------------------------------------------------------------------------------------------------- */

static void test_alloc(void) {
    static const int64_t sizes[] = {0, 1, 63, 64, 65, 4096, 100000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (2 << 20) + 4096, 5000000};
    void *p = &failures;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int round = 0; round < 2; round++) { /* the second time the C library gives back used memory */
            CHECK(zl_alloc(sizes[i], &p) == ZL_OK && p, "%lld bytes", (long long)sizes[i]);
            CHECK((uintptr_t)p % 64 == 0, "%lld bytes at %p", (long long)sizes[i], p);
            CHECK(sizes[i] < 2 << 20 || (uintptr_t)p % (2 << 20) == 0, "%lld bytes at %p: no huge page fits", (long long)sizes[i], p);
            int64_t dirty = 0;
            for (int64_t b = 0; b < sizes[i]; b++) dirty += ((uint8_t *)p)[b] != 0;
            CHECK(!dirty, "%lld of %lld bytes are not zero", (long long)dirty, (long long)sizes[i]);
            memset(p, 0xab, (size_t)sizes[i]);
            zl_release(p, sizes[i]);
        }
    }
    CHECK(zl_alloc(-1, &p) == ZL_E_ARG && !p, "-1 bytes");
    CHECK(zl_alloc(INT64_MAX, &p) == ZL_E_MEMORY && !p && strstr(zl_error(), "address space"), "2^63 bytes");
    CHECK(zl_alloc((int64_t)1 << 47, &p) == ZL_E_MEMORY && !p && strstr(zl_error(), "needs 140737488355328 bytes"), "2^47 bytes");
    CHECK(zl_alloc(1, NULL) == ZL_E_ARG, "no place for the result");
    zl_release(NULL, 100);
}

/* Whether the first page at p is mapped at all. */
static int mapped(void *p) {
    unsigned char resident;
    return mincore((void *)((uintptr_t)p & ~(uintptr_t)4095), 1, &resident) == 0;
}

/* Blocks that share a mapping: one behind the other, given back with the last of them. */
static void test_mapping(void) {
    enum { N = 3 };
    static const int64_t sizes[N] = {1, 4096, 10000}, ends[N] = {4096, 8192, 20480};
    zl_mapping *current = NULL, *from[N + 2];
    uint8_t *p[N + 2];
    for (int i = 0; i < N; i++) {
        CHECK(zl_mapping_take(&current, sizes[i], &p[i], &from[i]) == ZL_OK, "block %d", i);
        CHECK(from[i] == current && p[i] == p[0] + (i ? ends[i - 1] : 0), "block %d at %lld", i, (long long)(p[i] - p[0]));
        memset(p[i], 0xab, (size_t)sizes[i]);
    }
    CHECK((uintptr_t)p[0] % (2 << 20) == 0, "no huge page fits at %p", (void *)p[0]);
    const int64_t rest = ((int64_t)1 << 30) - ends[N - 1];
    CHECK(zl_mapping_take(&current, rest, &p[N], &from[N]) == ZL_OK && from[N] == from[0] && p[N] == p[0] + ends[N - 1], "what is left, whole");
    CHECK(zl_mapping_take(&current, 1, &p[N + 1], &from[N + 1]) == ZL_OK && from[N + 1] == current && current != from[0], "a new one after it");
    for (int i = N; i > 0; i--) zl_mapping_drop(from[i]);
    CHECK(mapped(p[0]) && p[0][0] == 0xab, "the first block went with the others");
    zl_mapping_drop(from[0]);
    CHECK(mapped(p[N + 1]), "the new mapping went with the old one");
    CHECK(!mapped(p[0]), "the mapping stays after its last block");
    zl_mapping_drop(current);
    CHECK(mapped(p[N + 1]), "a block went with the context");
    zl_mapping_drop(from[N + 1]);
    CHECK(!mapped(p[N + 1]), "the mapping stays after context and block");
    zl_mapping_drop(NULL);
    current = NULL;
    CHECK(zl_mapping_take(&current, ((int64_t)1 << 47) + 1, &p[0], &from[0]) == ZL_E_MEMORY && !current && strstr(zl_error(), "140737488355329"), "2^47 bytes");
}

/* Where address space is short, a mapping of what is needed is made. */
static void test_short_mapping(void) {
    if (SANITIZED) return;
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {(rlim_t)600 << 20, (rlim_t)600 << 20};
        setrlimit(RLIMIT_AS, &limit);
        void *room = mmap(NULL, (size_t)700 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room != MAP_FAILED) _exit(0); /* as in test_no_threads */
        zl_mapping *current = NULL, *from;
        uint8_t *p;
        if (zl_mapping_take(&current, 5000, &p, &from)) _exit(1);
        memset(p, 1, 8192);
        _exit(zl_mapping_take(&current, (int64_t)700 << 20, &p, &from) == ZL_E_MEMORY && current == from ? 0 : 2);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a mapping in 600 MB ended with %d", status);
}

/* A large reservation costs nothing until it is touched. Once per process: an emulator keeps books of every page. */
static void test_reservation(void) {
    enum { GIB = 8 };
    int64_t bytes = (int64_t)GIB << 30, page = sysconf(_SC_PAGESIZE), resident = 0;
    void *p = NULL;
    if (SANITIZED) return;
    CHECK(zl_alloc(bytes, &p) == ZL_OK, "%d GiB cannot be reserved", GIB);
    unsigned char *pages = malloc((size_t)(bytes / page));
    if (!p || !pages) return;
    ((char *)p)[bytes - 1] = 1, ((char *)p)[bytes / 2] = 1;
    CHECK(mincore(p, (size_t)bytes, pages) == 0, "mincore");
    for (int64_t i = 0; i < bytes / page; i++) resident += pages[i] & 1;
    CHECK(resident >= 2 && resident * page <= 4 << 20, "two bytes made %lld pages resident", (long long)resident); /* two huge pages */
    free(pages);
    zl_release(p, bytes);
}

static void test_scratch(zl_ctx *ctx) {
    CHECK(zl_ctx_scratch(ctx, 100, 1000) == ZL_OK, "scratch");
    for (int t = 0; t < zl_ctx_threads(ctx); t++) {
        CHECK((uintptr_t)ctx->private_[t] % 64 == 0, "scratch of thread %d is not aligned", t);
        uint8_t *end = t ? ctx->private_[t - 1] + 1000 : ctx->scratch + 100;
        CHECK(ctx->private_[t] >= end && ctx->private_[t] + 1000 <= ctx->scratch + ctx->scratch_bytes, "scratch of thread %d overlaps", t);
        memset(ctx->private_[t], 1, 1000);
    }
    uint8_t *kept = ctx->scratch;
    CHECK(zl_ctx_scratch(ctx, 50, 1000) == ZL_OK && ctx->scratch == kept, "a smaller wish allocates nothing");
    CHECK(zl_ctx_scratch(ctx, (int64_t)1 << 50, 0) == ZL_E_MEMORY && zl_ctx_scratch(ctx, 0, (int64_t)1 << 47) == ZL_E_MEMORY &&
              zl_ctx_scratch(ctx, -1, 0) == ZL_E_MEMORY && zl_ctx_scratch(ctx, 0, -1) == ZL_E_MEMORY, "more scratch than there is memory");
    const int64_t half = (int64_t)1 << 46; /* an address space, in two halves: not refused at once, but by the system */
    CHECK(zl_ctx_scratch(ctx, half, half / zl_ctx_threads(ctx)) == ZL_E_MEMORY && ctx->scratch_bytes == 0, "scratch of an address space");
    CHECK(zl_ctx_scratch(ctx, 50, 1000) == ZL_OK && ctx->scratch_bytes > 1000, "after it nothing is left of the old scratch");
    memset(ctx->scratch, 1, (size_t)ctx->scratch_bytes);
    CHECK(zl_ctx_scratch(ctx, 5000000, 100) == ZL_OK && ctx->scratch_bytes >= 5000000, "a larger wish after a failed one");
}

/* ---- the guard ------------------------------------------------------------------------------------------------------------------- */

/* A file of `pages` pages, mapped for reading; its descriptor goes to *fd. */
static uint8_t *mapped_file(size_t pages, int *fd) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *fd = temporary_file();
    if (*fd < 0) return NULL;
    char *bytes = malloc(page);
    memset(bytes, 7, page);
    for (size_t i = 0; i < pages; i++)
        if (write(*fd, bytes, page) != (ssize_t)page) return NULL;
    free(bytes);
    void *p = mmap(NULL, pages * page, PROT_READ, MAP_SHARED, *fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

typedef struct {
    const uint8_t *bytes;
    size_t page;
    _Atomic int64_t sum;
} reading;
static void read_page(void *arg, int64_t chunk, int thread) {
    reading *r = arg;
    (void)thread;
    atomic_fetch_add(&r->sum, ((const volatile uint8_t *)r->bytes)[chunk * (int64_t)r->page + 5]);
}

static void test_guard(zl_ctx *ctx) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    enum { PAGES = 40 };
    int fd, other_fd;
    uint8_t *file = mapped_file(PAGES, &fd), *other = mapped_file(2, &other_fd), *copy = malloc(PAGES * page);
    if (!file || !other) {
        CHECK(0, "no file can be mapped in the temporary folder");
        return;
    }
    int64_t bytes = PAGES * (int64_t)page;
    CHECK(zl_guard_add(NULL, 5) == ZL_E_ARG && zl_guard_add(file, 0) == ZL_E_ARG && zl_guard_add(file, -1) == ZL_E_ARG &&
              zl_guard_add((void *)(UINTPTR_MAX - 3), 5) == ZL_E_ARG, "ranges that are none");
    CHECK(zl_guard_remove(file) == ZL_E_ARG && zl_guard_remove(NULL) == ZL_E_ARG, "removing what is not there");
    CHECK(zl_guard_add(file, bytes) == ZL_OK, "add");
    CHECK(zl_guard_add(file, bytes) == ZL_E_ARG && zl_guard_add(file + page, 1) == ZL_E_ARG, "a range that overlaps");
    CHECK(zl_guard_add(other, 2 * (int64_t)page) == ZL_OK, "add another");
    CHECK(zl_guarded(file, bytes) && zl_guarded(file + bytes - 1, 1) && !zl_guarded(file, bytes + 1) && !zl_guarded(file + 1, bytes) &&
              !zl_guarded(file - 1, 2) && !zl_guarded(file, 0) && !zl_guarded(copy, 1), "what lies in a guarded range");
    CHECK(zl_copy(copy, file, bytes) == ZL_OK && !memcmp(copy, file, (size_t)bytes) && copy[bytes - 1] == 7, "copy of a whole file");
    CHECK(zl_copy(NULL, file, 5) == ZL_E_ARG && zl_copy(copy, NULL, 5) == ZL_E_ARG && zl_copy(copy, file, -1) == ZL_E_ARG &&
              zl_copy(NULL, NULL, 0) == ZL_OK, "copies of nothing");
    CHECK(!zl_any_fault() && zl_guard_check(file, bytes) == ZL_OK && zl_guard_faults(file) == 0, "no fault yet");

    /* The file shrinks to one page while it is mapped: the read that meets it is an error, in the caller and in workers. */
    CHECK(ftruncate(fd, (off_t)page) == 0, "truncate");
    CHECK(zl_copy(copy, file, bytes) == ZL_E_FAULT && strstr(zl_error(), "39"), "copy of a file that shrank");
    CHECK(copy[0] == 7 && copy[page] == 0, "what was there was copied, the rest is zeros");
    CHECK(zl_guard_faults(file + page) == PAGES - 1, "%lld faults", (long long)zl_guard_faults(file + page));
    CHECK(zl_copy(copy, file, 5) == ZL_E_FAULT, "the mapping stays bad: later reads would see zeros without a fault");
    CHECK(zl_copy(copy, other, 2 * (int64_t)page) == ZL_OK && zl_guard_faults(other) == 0, "another file is not touched by it");
    CHECK(zl_guard_check(copy, 5) == ZL_OK && zl_guard_faults(copy) == 0, "memory outside all ranges");
    CHECK(zl_guard_remove(file) == ZL_OK && !zl_any_fault(), "with the mapping its fault is forgotten");
    munmap(file, (size_t)bytes);
    close(fd);

    file = mapped_file(PAGES, &fd);
    CHECK(zl_guard_add(file, bytes) == ZL_OK && ftruncate(fd, 0) == 0, "add");
    reading r = {.bytes = file, .page = page};
    zl_parallel(ctx, PAGES, read_page, &r);
    CHECK(r.sum == 0 && zl_guard_check(file, bytes) == ZL_E_FAULT && zl_guard_faults(file) == PAGES, "pages lost under the workers: %lld",
          (long long)zl_guard_faults(file));
    CHECK(zl_guard_remove(file) == ZL_OK, "remove");
    munmap(file, (size_t)bytes);
    close(fd);

    /* More ranges than one table holds. */
    for (int i = 0; i < 300; i++) CHECK(zl_guard_add((void *)(uintptr_t)(0x10000 + i * 16), 16) == ZL_OK, "range %d", i);
    CHECK(zl_guard_add((void *)(uintptr_t)(0x10000 + 250 * 16 + 3), 1) == ZL_E_ARG, "overlaps range 250");
    for (int i = 0; i < 300; i++) CHECK(zl_guard_remove((void *)(uintptr_t)(0x10000 + i * 16)) == ZL_OK, "range %d", i);
    zl_guard_remove(other);
    munmap(other, 2 * page);
    close(other_fd);
    free(copy);
}

/* What is not ours goes to whoever was there: a handler, or the default action, which ends the process by SIGBUS. The handler can be
 * installed only once per process, so each case has a child, forked before any range was registered. */
static void passed_on(int signal_number) { _exit(signal_number == SIGBUS ? 42 : 43); }
static void passed_on_info(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    _exit(signal_number == SIGBUS && info->si_code > 0 ? 44 : 45);
}

static int chained(int which, int send) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        struct sigaction action = {.sa_handler = SIG_DFL};
        if (which == 1) action.sa_handler = passed_on;
        if (which == 2) action.sa_sigaction = passed_on_info, action.sa_flags = SA_SIGINFO;
        if (which == 3) action.sa_handler = SIG_IGN;
        sigaction(SIGBUS, &action, NULL);
        int fd;
        uint8_t *file = mapped_file(2, &fd);
        static uint8_t elsewhere[16];
        if (!file || zl_guard_add(elsewhere, 16) || ftruncate(fd, 0)) _exit(1);
        if (send) raise(SIGBUS);
        else (void)*(volatile uint8_t *)file;
        _exit(2);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void test_chain(void) {
    if (SANITIZED) return;
    int end;
    CHECK((end = chained(0, 0)) == -SIGBUS, "default action, a fault: %d", end);
    CHECK((end = chained(0, 1)) == -SIGBUS, "default action, sent: %d", end);
    CHECK((end = chained(1, 0)) == 42, "a plain handler: %d", end);
    CHECK((end = chained(1, 1)) == 42, "a plain handler, sent: %d", end);
    CHECK((end = chained(2, 0)) == 44, "a handler with information: %d", end);
    CHECK((end = chained(3, 0)) == -SIGBUS, "a fault cannot be ignored: %d", end);
    CHECK((end = chained(3, 1)) == 2, "a sent signal that was ignored stays ignored: %d", end);
}

int selftest_core(zl_ctx *ctx) {
    static int first = 1;
    failures = 0;
    if (first) test_chain(), test_no_threads(), test_short_mapping(), test_reservation();
    first = 0;
    test_context(ctx);
    test_busy(ctx);
    test_fork(ctx);
    test_alloc();
    test_mapping();
    test_scratch(ctx);
    test_guard(ctx);
    return failures;
}
