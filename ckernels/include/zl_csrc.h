/* zl_csrc.h - the prelude of the C file that cffi generates: it makes the declarations of zl_api.h and zl_text.h visible there. */
#include "zl.h"
#include "zl_text.h"
