#pragma once

namespace flint {

// Descriptors that become readable when something has happened (eventfd), for a program's own loop.
// None of these waits.

// A new one, above the standard descriptors; -1 and errno where there is none to be had.
int MakeEventFd();
void SignalEventFd(int fd);
void CloseEventFd(int fd);

}  // namespace flint
