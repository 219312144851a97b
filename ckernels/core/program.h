/* program.h - a validated list of ops, between program.c (build and run) and step.c (what is checked per step). */
#ifndef ZL_PROGRAM_H
#define ZL_PROGRAM_H
#include "ctx.h"

enum { ZL_CLASSES = 8 /* of zl_step.tables */ };

/* What the validator found out about the tensors, so that checking a step costs a few comparisons. */
typedef struct {
    int64_t capacity[2];           /* by zl_rows: the fewest rows that an external tensor has room for, and the arena's         */
    int uses_cache;                /* some tensor is a cache                                                                   */
    int uses_memory;               /* some attention goes by a plane of positions                                              */
    unsigned states;               /* bit c: cache class c holds states; what a step goes on from is named by its table        */
    unsigned written;              /* bit c: some op writes the step's rows, or their states, to cache class c                 */
    int32_t class_pages[ZL_CLASSES]; /* per cache class the fewest pages that a cache of it has; -1: no cache of that class, or
                                    * all that is done with it is looking at a memory: the step's own positions are not its   */
} zl_limits;

int zl_check_step(const zl_limits *limits, const zl_step *step); /* step.c */
#endif
