#pragma once

#include <cstdint>

namespace flint {

// What the log asks of whoever owns it. No lock of the log's is held meanwhile.
class LogObserver {
 public:
  // By whoever syncs, before it does: the last moment to append what has been held back. Must not
  // throw.
  virtual void BeforeSync() = 0;
  // By the background thread, after each of its syncs.
  virtual void OnSynced() = 0;
  // By the background thread, or by whoever closes: a segment has ended and got its name.
  virtual void OnRotated() = 0;
  // By the background thread, when there is no space for the next segment; true if it has made
  // some.
  virtual bool FreeDiskSpace() = 0;
  // By the background thread: an engine time that nothing appended after it has returned is earlier
  // than, but for denials.
  virtual int64_t TimeFloor() = 0;

 protected:
  ~LogObserver() = default;
};

}  // namespace flint
