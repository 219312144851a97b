/* zl_csrc.h - the prelude of the C file that cffi generates: it makes the declarations of zl_api.h visible there. */
#include "zl.h"
