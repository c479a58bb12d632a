// Box arithmetic on CUDA.
#include "boxes.h"
