#include "nibble_system.h"
