#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/env.h"
#include "base/sha256.h"
#include "engine/keyspace.h"
#include "engine/legacy_reader.h"
#include "storage/record.h"
#include "storage/segment.h"

namespace flint {

// Tells the events of Flint 0.1 and 0.2 in one segment of today's format, and makes each of them
// happen in a keyspace: so that replay finds what it finds here.
//
// Those versions took their times from the wall clock, which may go back; engine time does not. So
// an event keeps its wall time, and a CLOCK record pairs it with engine time wherever the two part.
// They also counted in floating point: an admission that exact arithmetic would not have granted
// yet gets the engine time at which it would.
class LegacyWriter {
 public:
  LegacyWriter(const SegmentHeader& header, std::unique_ptr<File> file);
  LegacyWriter(const LegacyWriter&) = delete;
  LegacyWriter& operator=(const LegacyWriter&) = delete;

  Status Begin(Env* env);
  Status Add(LegacyEvent event, LegacyFindings* findings);
  // The seal says that this segment was whole, so that the next opening keeps it as it is.
  Status Finish();

  uint64_t events() const { return events_; }

 private:
  static constexpr size_t kSweepAtLeast = 65536;

  struct Use {
    Counter* counter = nullptr;
    uint64_t cost = 0;
  };

  Status Append(RecordType type, uint32_t id, std::string_view payload, uint8_t flags = 0);
  Status AppendClock();
  Status CheckTime() const;
  Status WriteOut();
  Status SetTime(int64_t at_ns);
  Status Delay(int64_t at_ns, int64_t time_ns, uint64_t delay_ns);
  bool IsSlightlyBehind(const LegacyEvent& event, int64_t after_ns, int64_t* time_ns) const;
  Status TimeOf(const LegacyEvent& event, int64_t after_ns, int64_t* time_ns);
  int64_t ChangedAt(const Counter& counter) const;
  void NoteChanged(const LegacyItem& item);
  Status Configure(const LegacyEvent& event);
  bool Change(const LegacyItem& item);
  Status End(const LegacyEvent& event);
  Status Find(const LegacyEvent& event, const LegacyItem& item, Counter** counter);
  Status Prepare(const LegacyEvent& event, LegacyFindings* findings, std::vector<Use>* uses);
  Status BindKey(Counter* counter);
  Status AddDeny(const LegacyEvent& event, LegacyFindings* findings);
  Status Admit(const LegacyEvent& event, LegacyFindings* findings);
  Status AppendAllowAll(const LegacyEvent& event, const std::vector<Use>& uses, int64_t time_ns);
  void Sweep();

  const uint64_t generation_;
  std::unique_ptr<File> file_;
  uint32_t crc_;
  uint64_t sequence_ = 0;
  uint32_t next_id_ = 1;
  bool has_clock_ = false;
  int64_t engine_ns_ = 0;  // of the latest event
  int64_t wall_ns_ = 0;
  std::string buffer_;
  uint64_t written_ = 0;  // bytes behind the header
  Sha256 digest_;
  uint64_t events_ = 0;
  Keyspace keyspace_;
  // When limits were last configured or reset: of keys, for as long as an event may be told of that
  // was earlier, and of any template.
  std::unordered_map<std::string, int64_t> changed_;
  int64_t template_changed_ns_ = 0;
  size_t added_ = 0;  // since the last sweep
  size_t sweep_at_ = kSweepAtLeast;
};

}  // namespace flint
