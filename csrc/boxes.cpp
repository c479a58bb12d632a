// Box arithmetic on the CPU.
#include "boxes.h"
