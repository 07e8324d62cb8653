// How the C library's allocator keeps what is given back to it.
#ifndef NIBBLE_ALLOCATOR_H
#define NIBBLE_ALLOCATOR_H

// Keeps it all in one heap. For the start of a program; does nothing where the library cannot be
// told.
//
// oneDNN packs a product's operands in memory that it allocates in each call, on whatever thread
// calls it: with a heap for each thread, pages are touched for the first time whenever a thread
// meets a shape that others had before, and those that go back to the system are touched anew.
void nibble_keep_freed_memory(void);

#endif
