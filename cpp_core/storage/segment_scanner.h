#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <utility>

#include "storage/history.h"
#include "storage/segment.h"

namespace flint {

// The events of a segment in order, each record checked against the chain.
class SegmentScanner {
 public:
  using OnSeal = std::function<Status(const SealPayload& seal, const Record& record)>;

  // `end` is where the next segment takes over; UINT64_MAX for the newest. `on_seal`, if there is
  // one, is called for every SEAL.
  SegmentScanner(SegmentReader* reader, uint64_t end, OnSeal on_seal = nullptr)
      : reader_(reader), end_(end), on_seal_(std::move(on_seal)) {
    Rewind();
  }

  // The same segment, which has been opened again and may have ended meanwhile.
  void GoOnIn(SegmentReader* reader, uint64_t end) {
    reader_ = reader;
    end_ = end;
  }

  // Finds the clock pair that counts until the first one stands in the log.
  Status Begin();
  // `*found` is false at the end.
  Status Next(HistoryEvent* event, bool* found);
  uint64_t sequence() const { return sequence_; }  // of the last record
  uint32_t crc() const { return crc_; }            // likewise
  size_t keys() const { return keys_.size(); }     // that ids have stood for so far
  // Damage at a place of this segment, said in one form everywhere.
  Status Damage(uint64_t position, uint64_t sequence, const std::string& what) const;

 private:
  struct Key {
    std::string key;
    LimitKind kind = LimitKind::kExact;
    LimitConfig config;
    std::string name;
    uint32_t prefix_bytes = 0;
  };

  void Rewind();
  Status ReadRecord(Record* record, bool* found);
  Status Unreadable(const Record& record) const {
    return Damage(record.position, record.sequence, "a record that makes no sense");
  }
  Status Seal(const Record& record);
  bool Bind(const Record& record);
  bool BindFirst(const Record& record, HistoryEvent* event);
  bool Read(const Record& record, HistoryEvent* event);
  bool ReadLimit(const Record& record, HistoryEvent* event);
  bool ReadAllowAll(const Record& record, HistoryEvent* event);
  bool AddItem(uint32_t id, uint64_t cost, HistoryEvent* event);

  SegmentReader* reader_;
  uint64_t end_;
  const OnSeal on_seal_;
  uint64_t position_ = 0;
  uint64_t sequence_ = 0;
  uint32_t crc_ = 0;
  ClockPayload clock_;
  std::unordered_map<uint32_t, Key> keys_;
  // Of templates without a name, by their prefix: what the last KEY of one of their counters says.
  std::unordered_map<std::string, LimitConfig> templates_;
};

}  // namespace flint
