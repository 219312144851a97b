/* zl.h - zl_api.h for C: the fixed-width types it needs and nothing else. */
#ifndef ZL_H
#define ZL_H
#include <stddef.h>
#include <stdint.h>
#include "zl_api.h"
#endif
