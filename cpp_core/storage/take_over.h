#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/env.h"
#include "storage/log_appender.h"
#include "storage/log_path.h"
#include "storage/ring.h"

namespace flint {

// Where a log that has been read ends, and what of its end may not be on disk.
struct LogTail {
  uint64_t position = 0;  // behind the last record
  uint64_t sequence = 0;  // of the last record
  uint32_t crc = 0;       // that the next one continues
  uint32_t largest_id = 0;
  int64_t floor_ns = 0;  // of the newest segment
  uint64_t on_disk_to = 0;
  std::string_view records;  // from there to the end
  uint64_t torn_bytes = 0;   // behind the end
  std::vector<size_t> without_footer;
};

// Makes a log that has been read ready to be written: what may not be on disk is written again in
// its place, what was torn off is cut, and writing goes on in the newest segment if that has room.
// A crash at any moment leaves a log that reads the same. The directory is locked. One thread.
class TakeOver {
 public:
  // `features` are those of all that is there: a new segment repeats them.
  TakeOver(Env* env, std::string directory, LogPath* path, const Features& features,
           const LogOptions& options, const ClockPayload& clock)
      : env_(env),
        directory_(std::move(directory)),
        path_(path),
        features_(features),
        options_(options),
        clock_(clock) {}

  // The first segment of a directory that has none.
  Status Begin(ResumePoint* start);
  Status GoOn(const LogTail& tail, bool has_ring, ResumePoint* start);

 private:
  template <typename Step>
  Status WithRoom(const Step& step);
  bool DropOldestHistory();

  Status MakeFirstRing(bool sync);
  Status MakeRing(ResumePoint* start);
  Status CreateNext(uint64_t number, std::shared_ptr<LogSegment>* next);
  Status StartSegment(std::shared_ptr<LogSegment> segment, const StartPayload& begin,
                      ResumePoint* start);
  Status CutTorn(const LogTail& tail);
  Status KeepTornAside(const LogTail& tail);
  Status RemoveOldestTorn();
  Status FinishOlder(const LogTail& tail);
  Status FinishSegment(size_t index, const LogTail& tail, bool add_footer);
  Status FindFooterBehind(size_t index, std::string* footer, bool* there);
  Status WriteNewest(const LogTail& tail, ResumePoint* start);
  Status BeginNext(ResumePoint* start);
  bool HasRoom(const LogTail& tail) const;
  std::string PathOf(const std::string& name) const { return directory_ + "/" + name; }
  SegmentReader& newest() const { return *path_->segments.back(); }

  Env* const env_;
  const std::string directory_;
  LogPath* const path_;
  const Features features_;
  const LogOptions& options_;
  const ClockPayload& clock_;
};

}  // namespace flint
