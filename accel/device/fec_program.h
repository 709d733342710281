#include "dialect.h"
#include "code1.h"
