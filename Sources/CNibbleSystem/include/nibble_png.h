// libpng without its setjmp: every error comes back as a code and a message.
#ifndef NIBBLE_PNG_H
#define NIBBLE_PNG_H
#endif
