#ifndef NIBBLE_ONEDNN_H
#define NIBBLE_ONEDNN_H
#endif
