/* grammar_machine.h - what a grammar's machine is to the code that walks a vocabulary with it (grammar_mask.c).
 *
 * A machine reads bytes. Its states are numbers 0, 1, 2, ... in the order in which they were found; the same place is the same number, so
 * that transitions and masks can be kept per state. There are two kinds, a pushdown machine (grammar_pushdown.c) and a validator of JSON
 * (json_schema.c); each puts this struct first in its own, and fills in the first part:
 *
 *      typedef struct { zl_machine base; ... } my_machine;
 *      zl_machine_init(&m->base, step, finished, release, class_of, n_classes);
 *
 * `step` computes a transition anew each time: zl_machine_step() keeps what it gave, in a row per state of one cell per class of bytes.
 * Bytes of one class must lead to the same state everywhere; class_of NULL: every byte is its own class. The fewer classes there are,
 * the fewer steps are ever made: bytes that a machine never tells apart (most of UTF-8, most letters) belong into one.
 *
 *      next     cell [state][class]     UNKNOWN until asked for; then a state, or ZL_DEAD
 *
 * Memory: whatever a machine keeps, it takes through zl_machine_grow() and counts, up to `limit` bytes. Work: each call of step counts one
 * unit by itself; a machine whose steps cost more adds to `work`. Past a limit step gives ZL_BUDGET and `over` says of what; that is an
 * error for the caller, never an answer.
 */
#ifndef ZL_GRAMMAR_MACHINE_H
#define ZL_GRAMMAR_MACHINE_H
#include "core.h"

enum { ZL_DEAD = -1, ZL_BUDGET = -2, ZL_UNKNOWN = -3, ZL_MIXED = -4 };
enum { ZL_N_CLASSES = 4, ZL_N_UNIFORM = 2 * ZL_N_CLASSES };
enum { ZL_OVER_BYTES = 1, ZL_OVER_WORK = 2, ZL_OVER_MEMORY = 3, ZL_OVER_ASKED = 4 }; /* 3: malloc failed; 4: who was asked for a row gave none */

struct zl_machine {
    int32_t (*step)(zl_machine *m, int32_t state, uint8_t byte); /* a state, ZL_DEAD or ZL_BUDGET; never called with ZL_DEAD        */
    int (*finished)(zl_machine *m, int32_t state);               /* 1 or 0, or ZL_BUDGET where it cannot be said                 */
    int32_t (*alike)(zl_machine *m, int32_t state); /* may be NULL: the state that every character from space on but " and \ leads to, if the
                                                     * machine knows that all do; ZL_UNKNOWN if it does not, ZL_BUDGET */
    void (*fresh)(zl_machine *m, int32_t state, int32_t *row); /* may be NULL: of a state that is stepped from for the first time ZL_DEAD for
                                                                * each byte of which that is known beforehand, byte 0 among them, and
                                                                * ZL_UNKNOWN for the others; a machine of 256 classes                 */
    void (*release)(zl_machine *m); /* frees what the machine has beside this struct, not the struct                              */
    int32_t start;                  /* the state before the first byte; set by the machine's maker after init                    */
    int32_t n_states;               /* states 0..n_states-1 exist; the machine counts them up                                     */
    int n_classes;
    uint8_t class_of[256];
    int64_t bytes, limit;           /* taken through zl_machine_grow; the most of it                                              */
    int64_t work, work_limit;       /* units since the caller set `work` to 0                                                     */
    int over;                       /* ZL_OVER_*, when a step gave ZL_BUDGET                                                      */
    /* the rest is grammar_machine.c's own */
    int32_t *next;                  /* [room][n_classes]                                                                          */
    int32_t *uniform;               /* [uniform_room][ZL_N_UNIFORM] grammar_mask.c: where all characters of a class lead to, and for each class
                                     * whether a text of its characters is never refused                                       */
    int32_t room, uniform_room;
    int tired[ZL_N_CLASSES];        /* how often that could not be said for a class                                              */
};

void zl_machine_init(zl_machine *m, int32_t (*step)(zl_machine *, int32_t, uint8_t), int (*finished)(zl_machine *, int32_t),
                     void (*release)(zl_machine *), const uint8_t *class_of, int n_classes);

/* *p, an array of `had` bytes (NULL and 0 at first), becomes one of at least `need` bytes, at least doubled; *had says how many. 0, or -1
 * with `over` set, and *p as it was. What is new is not cleared. */
int zl_machine_grow(zl_machine *m, void *p, int64_t *had, int64_t need);

int32_t zl_machine_step_new(zl_machine *m, int32_t state, uint8_t byte); /* zl_machine_step, where the cell is UNKNOWN or missing */

int zl_machine_fail(const zl_machine *m);                 /* the status and text for a step that gave ZL_BUDGET */
int zl_machine_check(const zl_machine *m, int32_t state); /* ZL_E_BOUNDS for a state that is none */

/* The state after `byte`, ZL_DEAD or ZL_BUDGET. state >= 0. */
static inline int32_t zl_machine_step(zl_machine *m, int32_t state, uint8_t byte) {
    if (state < m->room) {
        int32_t next = m->next[(int64_t)state * m->n_classes + m->class_of[byte]];
        if (next != ZL_UNKNOWN) return next;
    }
    return zl_machine_step_new(m, state, byte);
}
#endif
