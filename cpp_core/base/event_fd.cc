#include "base/event_fd.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "base/posix_file.h"

namespace flint {

int MakeEventFd() { return AboveStandard(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

// Fails only when the counter is at its end, and then the descriptor is readable anyway.
void SignalEventFd(int fd) { static_cast<void>(eventfd_write(fd, 1)); }

void CloseEventFd(int fd) { close(fd); }

}  // namespace flint
