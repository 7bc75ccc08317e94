#include "storage/verify.h"

#include <algorithm>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/sha256.h"
#include "storage/file_names.h"
#include "storage/segment_scanner.h"

namespace flint {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;

class Verifier {
 public:
  Verifier(LogPath* path, SegmentsReport* report) : report_(report) {
    for (auto* readers : {&path->history, &path->segments}) {
      for (auto& reader : *readers) {
        segments_.push_back(reader.get());
        by_generation_[reader->header().generation] = reader.get();
        report_->log_bytes += reader->file_bytes();
      }
    }
  }

  Status Run() {
    for (size_t i = 0; i < segments_.size(); ++i) {
      FLINT_RETURN_IF_ERROR(Verify(i));
      // The seals of its last records stand at the beginning of the next one.
      if (i > 0) segments_[i - 1]->LetGo();
    }
    return Status();
  }

 private:
  Status Verify(size_t index) {
    const SegmentReader* const next = index + 1 < segments_.size() ? segments_[index + 1] : nullptr;
    const uint64_t end = next == nullptr ? UINT64_MAX : next->start().position;
    SegmentScanner scanner(
        segments_[index], end,
        [this](const SealPayload& seal, const Record& record) { return CheckSeal(seal, record); });
    HistoryEvent event;
    bool found = true;
    while (true) {
      FLINT_RETURN_IF_ERROR(scanner.Next(&event, &found));
      if (!found) break;
      ++report_->events;
    }
    if (next == nullptr || (next->start().previous_crc == scanner.crc() &&
                            next->first_sequence() == scanner.sequence() + 1)) {
      return Status();
    }
    return scanner.Damage(end, scanner.sequence() + 1,
                          "the next segment, " + next->name() + ", does not continue it");
  }

  // What the sealed segment has lost is not there to be compared; the chain tells of that.
  Status CheckSeal(const SealPayload& seal, const Record& record) {
    const auto found = by_generation_.find(seal.generation);
    if (found == by_generation_.end() || seal.begin == seal.end) return Status();
    SegmentReader* const reader = found->second;
    Sha256 digest;
    for (uint64_t at = seal.begin; at < seal.end;) {
      const size_t wanted = std::min<uint64_t>(kPieceBytes, seal.end - at);
      std::string bytes;
      FLINT_RETURN_IF_ERROR(reader->Read(at, wanted, &bytes));
      digest.Update(bytes.data(), bytes.size());
      if (bytes.size() < wanted) break;
      at += wanted;
    }
    ++report_->seals;
    if (digest.Final() == seal.digest) return Status();
    const uint64_t offset = reader->OffsetOf(seal.begin);
    return Status(Code::kCorruption, "the log is damaged: " + reader->name() + " at offset " +
                                         std::to_string(offset) + ": the " +
                                         std::to_string(seal.end - seal.begin) +
                                         " bytes from there do not have the SHA-256 that record " +
                                         std::to_string(record.sequence) + " seals")
        .At(reader->name(), offset, record.sequence);
  }

  SegmentsReport* const report_;
  std::vector<SegmentReader*> segments_;
  std::unordered_map<uint64_t, SegmentReader*> by_generation_;
};

// History goes back from the snapshot without a gap; what is older must have gone with it.
Status CheckHistory(const LogPath& path) {
  if (!path.damaged.empty()) {
    return Status(Code::kCorruption,
                  path.damaged.front() + ": the header of a log segment cannot be read")
        .At(path.damaged.front(), 0, 0);
  }
  if (path.unreachable.empty()) return Status();
  const SegmentReader& oldest =
      path.history.empty() ? *path.segments.front() : *path.history.front();
  return Status(Code::kCorruption, "the log segment before " + oldest.name() +
                                       " is missing, although " + path.unreachable.back()->name() +
                                       " is there")
      .At(oldest.name(), 0, oldest.first_sequence());
}

Status WrongName(const std::string& name, const SegmentReader& reader, const std::string& right) {
  return Status(Code::kCorruption, name + ": this is log segment number " +
                                       std::to_string(reader.header().number) + ", whose name is " +
                                       right +
                                       "; opening the directory for writing puts that right")
      .At(name, 0, reader.first_sequence());
}

// Whether what looks like a prepared segment has the name. It may have been written to and lost its
// START, so opening leaves it where it is and takes another name.
bool IsPrepared(const LogPath& path, const std::string& name) {
  return std::any_of(path.unstarted.begin(), path.unstarted.end(),
                     [&](const auto& reader) { return reader->name() == name; });
}

// Which segment flint.aof is by now; 0 when there is none.
uint64_t NumberOfLogNow(Env* env, const std::string& directory) {
  std::unique_ptr<SegmentReader> log;
  return SegmentReader::Open(env, directory, kLogName, &log).ok() ? log->header().number : 0;
}

// A rotation may be under way: then the newest is still called flint.aof.next and the one before it
// flint.aof. Others may have ended since the files were listed.
Status CheckNames(Env* env, const std::string& directory, const LogPath& path) {
  const SegmentReader& newest = *path.segments.back();
  const uint64_t log_number = NumberOfLogNow(env, directory);
  if (IsRotatedName(newest.name()) && log_number < newest.header().number) {
    return WrongName(newest.name(), newest, kLogName);
  }
  for (const auto* readers : {&path.history, &path.segments}) {
    for (const auto& reader : *readers) {
      const std::string right = RotatedSegmentName(reader->first_sequence());
      if (IsRotatedName(reader->name()) && reader->name() != right && !IsPrepared(path, right)) {
        return WrongName(reader->name(), *reader, right);
      }
      const bool left = reader->header().number + 1 < newest.header().number;
      const bool is_log = reader->name() == kLogName && reader->header().number == log_number;
      if (left && is_log) return WrongName(kLogName, *reader, right);
    }
  }
  for (const LogPath::Copy& copy : path.copies) {
    if (copy.whole) continue;
    return Status(Code::kCorruption, copy.name + ": an older copy of a log segment")
        .At(copy.name, 0, 0);
  }
  return Status();
}

}  // namespace

Status VerifySegments(Env* env, const std::string& directory, const Covered& covered,
                      SegmentsReport* report) {
  *report = SegmentsReport();
  LogPath path;
  FLINT_RETURN_IF_ERROR(FindLogPath(env, directory, covered, UINT64_MAX, &path));
  if (path.segments.empty()) return Status();
  report->segments = path.segments.size();
  report->history_segments = path.history.size();
  FLINT_RETURN_IF_ERROR(Verifier(&path, report).Run());
  FLINT_RETURN_IF_ERROR(CheckHistory(path));
  return CheckNames(env, directory, path);
}

}  // namespace flint
